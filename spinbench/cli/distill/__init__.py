"""`spinbench distill`: drafters for a target."""
