"""What is asked of the server: requests, traces in any known format, arrival times. Imports no model library."""
