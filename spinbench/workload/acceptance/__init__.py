"""Which drafted tokens are accepted: recorded once, resampled for other requests, or made up by a stated law."""
