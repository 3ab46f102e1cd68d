"""Where drafted tokens come from, when, and for whom."""
