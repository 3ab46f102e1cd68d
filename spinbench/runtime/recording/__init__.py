"""What drafters would have done along texts that the target wrote."""
