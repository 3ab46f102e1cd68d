"""From timings to a cost model, and how well it predicts."""
