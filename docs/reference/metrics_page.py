"""docs/metrics.md, from spinbench/metrics/definitions.py."""

from docs.reference.markdown import MADE, code, table
from spinbench.metrics.definitions import METRICS
from spinbench.metrics.latency import LATENCIES

INTRODUCTION = """\
# Metrics

Keys of a run's `summary.json` and columns of a sweep's `points.parquet`. Names are those of `vllm bench serve` where
it has the metric. `null` means that there was nothing to measure. They are computed from the three tables of a run
([formats](formats.md#a-run)), so anyone can compute them again.

A *round* is one draft and verification of one micro-batch; it has a row in `rounds.parquet` for each of its requests,
with `drafted` and `accepted` tokens and `emitted = accepted + 1`, the target's own token included. *Completed*
requests ended by an end token or their length. *Duration* is from the start of the run to its end. Percentiles
interpolate linearly, and the standard deviation is the population's.

Two keys differ in a way that misleads: `spec_decode_acceptance_length` leaves rounds without a draft out, as vLLM
does; `acceptance_length` counts them, so 1.0 is plain decoding.
"""


def metrics_page() -> str:
    """The page."""
    plain = [metric for metric in METRICS if not _latency_of(metric.key)]
    latencies = [
        [f"`{{mean,median,std,p90,p95,p99}}_{name}_ms`", "ms", f"statistics of: {formula}"]
        for name, formula in LATENCIES.items()
    ]
    at = next(place for place, metric in enumerate(METRICS) if _latency_of(metric.key))
    rows = [[code(metric.key), metric.unit, metric.formula] for metric in plain]
    return "\n".join(
        (MADE, "", INTRODUCTION, table(("key", "unit", "definition"), [*rows[:at], *latencies, *rows[at:]]))
    )


def _latency_of(key: str) -> str | None:
    """The latency that a key is a statistic of."""
    return next((name for name in LATENCIES if key.endswith(f"_{name}_ms") and key.count("_") == 2), None)
