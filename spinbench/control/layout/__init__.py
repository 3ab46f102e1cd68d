"""Verification layouts: one file each, and the plans that they make."""
