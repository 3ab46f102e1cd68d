"""Two sides of runs: how they differ, and whether it is more than noise."""
