"""The metrics of one run, as `summary.json` has them."""

from collections.abc import Mapping

from spinbench.metrics.definitions import METRICS
from spinbench.metrics.measured import measure
from spinbench.metrics.metric import MetricValue
from spinbench.metrics.replica_definitions import REPLICA_METRICS
from spinbench.metrics.tables import RunTables


def summarise(tables: RunTables, slo_ms: Mapping[str, float] | None = None) -> dict[str, MetricValue]:
    """Every metric of the run by key, in the order of `METRICS`; None where a metric has nothing to measure."""
    measured = measure(tables, slo_ms)
    metrics = METRICS if tables.num_replicas == 1 else (*METRICS, *REPLICA_METRICS)
    return {metric.key: metric.compute(measured) for metric in metrics}
