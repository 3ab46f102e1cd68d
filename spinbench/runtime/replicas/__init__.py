"""One trace over several replicas of the target."""
