"""Attention over the paged pool as Triton kernels, and what they are told of a pass."""
