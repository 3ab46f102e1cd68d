"""Draft + verify cycles: what is chosen for one, its steps, what it comes to."""
