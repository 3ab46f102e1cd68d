"""Selectors: which drafter drafts for which request. One file each, one YAML each in `conf/selector/`."""
