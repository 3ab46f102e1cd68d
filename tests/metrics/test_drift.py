"""Errors of simulations whose times are scaled."""

from types import SimpleNamespace
from typing import Any, cast

from spinbench.metrics.drift import rescaled_errors
from spinbench.metrics.store import Run


def _run(**summary: Any) -> Run:
    return cast(Run, SimpleNamespace(summary={**dict.fromkeys(KEYS), **summary}))


KEYS = (
    "output_throughput", "request_throughput", "acceptance_length",
    *(f"{s}_{x}_ms" for x in ("ttft", "tpot", "e2el") for s in ("mean", "median", "p90", "p99")),
)  # fmt: skip


def test_each_run_is_held_against_its_own_simulation() -> None:
    real = [_run(output_throughput=100.0, p90_ttft_ms=40.0), _run(output_throughput=80.0, p90_ttft_ms=50.0)]
    simulated = [_run(output_throughput=101.0, p90_ttft_ms=30.0), _run(output_throughput=84.0, p90_ttft_ms=51.0)]
    errors = rescaled_errors(real, [run.summary for run in simulated]).set_index("metric")
    # throughput: +1 % and +5 %; TTFT: -25 % and +2 %
    assert errors["error"].round(6).to_dict() == {"output_throughput": 0.03, "p90_ttft_ms": -0.115}
    assert errors["worst"].round(6).to_dict() == {"output_throughput": 0.05, "p90_ttft_ms": -0.25}
