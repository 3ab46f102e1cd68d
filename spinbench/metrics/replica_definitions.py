"""Metrics of runs on several replicas: those of each replica, and how even their shares are."""

from spinbench.metrics.definitions import METRICS
from spinbench.metrics.measured import Measured
from spinbench.metrics.metric import Metric, MetricValue
from spinbench.metrics.replicas import output_imbalance, target_occupancy


def _per_replica(key: str) -> Metric:
    """A metric of `METRICS` as each replica has it."""
    metric = next(metric for metric in METRICS if metric.key == key)

    def compute(m: Measured) -> MetricValue:
        found = {str(index): metric.compute(own) for index, own in enumerate(m.by_replica)}
        return {index: value for index, value in found.items() if isinstance(value, int | float)}

    return Metric(f"{key}_per_replica", metric.unit, f"{metric.formula}; by replica", compute)


REPLICA_METRICS: tuple[Metric, ...] = (
    *map(_per_replica, ("num_prompts", "total_output_tokens", "output_throughput", "request_goodput")),
    *map(_per_replica, ("mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms", "max_concurrent_requests")),
    Metric(
        "target_occupancy_per_replica",
        "share",
        "busy time of the target / duration; by replica",
        lambda m: {str(index): target_occupancy(own) for index, own in enumerate(m.tables.by_replica)},
    ),
    Metric(
        "output_imbalance",
        "ratio",
        "output tokens of the replica with most / mean over replicas",
        lambda m: output_imbalance(m.tables),
    ),
)
"""Of runs on several replicas only. All other metrics are of the replicas together."""
