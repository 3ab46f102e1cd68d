"""What runs jobs side by side, and when they began and ended."""
