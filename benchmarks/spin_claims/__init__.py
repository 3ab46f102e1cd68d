"""The report on the claims of SPIN's paper: sweeps, runs, figures and page."""
