"""What decisions and engines pass to each other: jobs one way, events the other."""
