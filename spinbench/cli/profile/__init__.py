"""`spinbench profile`: measuring, and what a profile says of itself."""
