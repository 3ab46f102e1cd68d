"""Hydra, as the commands use it: configs composed fast, mistakes in one line."""
