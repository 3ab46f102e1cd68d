"""One forward pass of a model over the paged KV pool."""
