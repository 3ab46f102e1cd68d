"""Passes and draft loops over static tensors: captured as CUDA graphs, or run as they are to prove the same logic."""
