"""`spinbench recommend`: question, search, answer."""
