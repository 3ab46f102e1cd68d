"""The commands: thin, one module each; a user's mistake ends in one line and exit code 2."""
