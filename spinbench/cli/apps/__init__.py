"""The commands, thin: one module each, found by its name."""
