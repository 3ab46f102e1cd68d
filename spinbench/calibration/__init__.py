"""Profiles: what jobs and passes cost on a device, measured or estimated, and the cost model fitted to them."""
