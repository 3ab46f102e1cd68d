"""One module per figure; each gives a `Plot` or None when the runs have nothing to show."""
