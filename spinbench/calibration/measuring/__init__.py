"""Timing on this machine."""
