"""Which replica serves a request: routers, and what they are told."""
