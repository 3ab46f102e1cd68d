"""Profiles of devices that nobody measured."""
