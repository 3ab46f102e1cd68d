"""`spinbench replay`: one run."""
