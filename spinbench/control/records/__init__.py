"""What a run leaves behind, put away as columns while it goes on."""
