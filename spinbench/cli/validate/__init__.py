"""`spinbench validate`: both engines on the same requests."""
