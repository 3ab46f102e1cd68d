"""From logits to tokens, and whether drafted ones are kept."""
