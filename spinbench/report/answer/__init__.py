"""The answer to "what should I run"."""
