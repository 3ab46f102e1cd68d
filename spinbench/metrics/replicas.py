"""What each replica of a run did: figures by replica, and how evenly the router spread the work."""

from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.metrics.lanes import lane_occupancy
from spinbench.metrics.tables import RunTables


def target_occupancy(tables: RunTables) -> float:
    """Share of the run in which the target was busy, which is that of one replica."""
    return lane_occupancy(tables).get(TARGET_LANE, 0.0)


def output_imbalance(tables: RunTables) -> float | None:
    """Output tokens of the replica with most over the mean of all replicas; 1 = spread evenly, N = all at one."""
    tokens = [int(own.requests["output_tokens"].sum()) for own in tables.by_replica]
    return max(tokens) * len(tokens) / sum(tokens) if sum(tokens) else None
