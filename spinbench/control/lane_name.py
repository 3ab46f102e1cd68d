"""Names of lanes that are no drafter's."""

TARGET_LANE = "target"
