"""Distilling drafters for any target: self-play text, soft labels, training, scores, int8 packing."""
