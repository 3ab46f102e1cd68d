"""What a metric is, and the statistics that many of them are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spinbench.metrics.measured import Measured

MetricValue = int | float | None | list[float] | list[float | None] | dict[str, float]


@dataclass(frozen=True)
class Metric:
    """One number of the summary. `compute` gives None where the metric is not defined for the run."""

    key: str
    unit: str
    formula: str
    compute: Callable[[Measured], MetricValue]


def statistic(name: str, samples: np.ndarray) -> float | None:
    """`mean`, `median`, `std` or a percentile like `p99` of the samples; None without any."""
    if len(samples) == 0:
        return None
    if name.startswith("p"):
        return float(np.percentile(samples, int(name[1:])))
    # Population standard deviation and linear percentiles, as vLLM takes them.
    return float({"mean": np.mean, "median": np.median, "std": np.std}[name](samples))
