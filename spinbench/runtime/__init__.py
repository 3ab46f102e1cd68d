"""The torch engine: real models, a paged KV pool, one lane."""
