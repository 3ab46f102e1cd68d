"""Where finished runs are sent besides their folders: experiment trackers."""
