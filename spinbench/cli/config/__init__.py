"""What configs must be, section by section, and what their keys name."""
