"""A profile: what is timed, and the folder that it is kept in."""
