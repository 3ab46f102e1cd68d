"""Many runs as one sweep: points keyed by what decides their result, done once, kept in one table."""
