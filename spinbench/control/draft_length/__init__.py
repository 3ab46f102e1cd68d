"""Policies for K, the tokens that each request drafts in a round: one file each."""
