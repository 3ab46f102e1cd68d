"""The KV cache of a run: its memory, and where in it each token of a request lies."""
