"""Trace formats: one file each, all turned into `Request`s."""
