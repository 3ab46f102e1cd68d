"""What one set-up gains over another as predicted, and between which bounds the gain is expected.

Symbols: G the simulated ratio of the objective, set-up a over baseline b; e_a, e_b >= 0 the errors of the two simulated
figures, as natural logarithms of factors; [G_low, G_high] where 95 % of a paired bootstrap over requests lie. Then

    low  = G exp(-sqrt(ln(G / G_low)^2  + e_a^2 + e_b^2))
    high = G exp(+sqrt(ln(G_high / G)^2 + e_a^2 + e_b^2))

Logarithms, as errors of times are factors, and no ratio falls below 0. The parts are added as independent ones are.

Limits. Errors of a and b mostly have the same sign (a machine that was slower that day) and then cancel, so the
bounds are wide; they are too narrow where an error is of one set-up alone, such as a drafter whose passes the profile
mistimes. Errors of a handful of validated loads, or of a profile's held-out jobs, are taken for the errors of
everything: nothing bounds what neither saw, such as memory that runs out, or lanes that share a machine. The bootstrap
draws requests with what they took beside the others of their run; it makes no new queue of them. A selector that
draws at random is simulated with one seed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spinbench.metrics.latency import completed_requests, latency_samples
from spinbench.metrics.slo import requests_within_slo, within_slo
from spinbench.metrics.tables import RunTables
from spinbench.report.comparison.bootstrap import Values, mean, ratio_interval, ratio_of_sums

SEED = 0
"""Of the bootstrap's draws: the same runs give the same interval."""


@dataclass(frozen=True)
class Error:
    """How far a simulated figure may be off, as natural logarithms of factors, each >= 0."""

    down: float = 0.0
    up: float = 0.0


@dataclass(frozen=True)
class Gain:
    """A ratio and its bounds."""

    ratio: float
    low: float
    high: float
    """May be infinite where the baseline may have none."""

    def __contains__(self, value: float) -> bool:
        """Whether a measured ratio lies within the bounds."""
        return self.low <= value <= self.high

    @property
    def is_told_apart(self) -> bool:
        """Whether 1 lies outside."""
        return 1.0 not in self


def gain(ratio: float, drawn: tuple[float, float], error: Error, base_error: Error) -> Gain:
    """The formula above; `drawn` are the bootstrap's bounds, equal to `ratio` where nothing can be drawn."""
    below, above = drawn
    down = math.hypot(_log_ratio(ratio, below), error.down, base_error.up)
    up = math.hypot(_log_ratio(above, ratio), error.up, base_error.down)
    return Gain(ratio, ratio * math.exp(-down), ratio * math.exp(up) if up < math.inf else math.inf)


def _log_ratio(over: float, under: float) -> float:
    """At least 0: a bootstrap's bound on the wrong side of the estimate counts as none."""
    if under <= 0:
        return math.inf
    return max(0.0, math.log(over / under))


def drawn_bounds(
    ratio: float, over: RunTables, base: RunTables, slo_ms: Mapping[str, float] | None
) -> tuple[float, float]:
    """Bounds of the ratio over requests drawn in pairs; the ratio itself where there are fewer than two.

    Of throughput: output tokens over the time in service, summed over the drawn requests. A run's duration is no sum
    over requests, but time in service is, and its ratio moves as that of the durations does; so the bootstrap's
    spread is relative, and centred on `ratio`. Of SLO goodput: the share of requests within it.
    """
    columns = [_columns(tables, slo_ms) for tables in (base, over)]
    common = sorted(columns[0].keys() & columns[1].keys())
    if not common:
        return ratio, ratio
    before, after = (np.array([[side[name] for name in common]]) for side in columns)
    statistic = mean if slo_ms is not None else ratio_of_sums
    centre = [float(statistic(side)[0]) for side in (before, after)]
    interval = ratio_interval(before, after, statistic, np.random.default_rng(SEED))
    if interval is None or not all(centre):
        return ratio, ratio
    scale = ratio * centre[0] / centre[1]
    return interval[0] * scale, interval[1] * scale


def _columns(tables: RunTables, slo_ms: Mapping[str, float] | None) -> dict[str, tuple[float, ...]]:
    requests = completed_requests(tables.requests)
    names = [str(name) for name in requests["request_id"]]
    if slo_ms is None:
        service_s = requests["finish_s"] - requests["first_scheduled_s"]
        rows: Values = np.column_stack([requests["output_tokens"], service_s]).astype(float)
        return {name: tuple(row) for name, row in zip(names, rows.tolist(), strict=True)}
    within = within_slo(latency_samples(tables), slo_ms)
    return {name: (float(value),) for name, value in zip(names, within, strict=True)}


def goodput_error(tables: RunTables, slo_ms: Mapping[str, float], latency_error: float) -> Error:
    """What an error of all latencies, as a logarithm, makes of the number of requests within the SLO."""
    samples = latency_samples(tables)

    def within(factor: float) -> int:
        # as limits that are shorter, which says the same
        return requests_within_slo(samples, {name: limit_ms / factor for name, limit_ms in slo_ms.items()})

    middle = within(1.0)
    longer, shorter = within(math.exp(latency_error)), within(math.exp(-latency_error))
    return Error(_log_ratio(middle, longer), _log_ratio(shorter, middle))
