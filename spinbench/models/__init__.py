"""Models: fetched, converted, loaded, distilled; and prompts turned into their tokens."""
