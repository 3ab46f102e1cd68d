"""Hugging Face's own generation, as a peer that we did not write."""
