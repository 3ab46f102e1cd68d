"""What could have been: the best drafter and draft length at every position, once the texts are known."""
