"""How two sides differ in each metric, and whether that is more than noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinbench.metrics.latency import completed_requests, latency_samples
from spinbench.report.comparison.bootstrap import Statistic, Values, mean, percentile, ratio_interval, ratio_of_sums
from spinbench.report.comparison.compared_run import ComparedRun, SettingPair
from spinbench.sweep.table import flat

BY_REQUEST: dict[str, tuple[str, Statistic]] = {
    f"{name}_{latency}_ms": (latency, statistic)
    for latency in ("ttft", "tpot", "e2el")
    for name, statistic in (
        ("mean", mean),
        ("median", percentile(50)),
        ("p90", percentile(90)),
        ("p95", percentile(95)),
        ("p99", percentile(99)),
    )
} | {"acceptance_length": ("rounds", ratio_of_sums), "spec_decode_acceptance_length": ("drafts", ratio_of_sums)}
"""Metrics that are a statistic over requests: of what, and which."""
SEED = 0
"""Of the draws: the same comparison gives the same interval."""


@dataclass(frozen=True)
class Difference:
    """One metric of one setting."""

    setting: str
    metric: str
    before: float | None
    """Median over A's repeats."""
    after: float | None
    ratio: float | None
    """B over A, of the medians; None where A is 0 or has none."""
    low: float | None
    """Bounds of the ratio in 95 % of the bootstrap's draws; None where there is nothing to draw from."""
    high: float | None
    drawn: str
    """What was drawn: requests, repeats, both, or nothing."""

    @property
    def verdict(self) -> str:
        """higher or lower where the interval lies beside 1, `within noise`, `equal`, or that it is unknown."""
        if self.before is None or self.after is None:
            return "no value"
        if self.before == self.after and self.low in (None, 1.0) and self.high in (None, 1.0):
            return "equal"
        if self.low is None or self.high is None:
            return "noise unknown"
        if self.low > 1:
            return "higher"
        return "lower" if self.high < 1 else "within noise"


def metrics_of(pairs: Sequence[SettingPair]) -> dict[str, None]:
    """Names of the numbers that summaries have, in their order."""
    names: dict[str, None] = {}
    for pair in pairs:
        for run in (*pair.before, *pair.after):
            names.update(dict.fromkeys(_numbers(run)))
    return names


def differences(pair: SettingPair, metrics: Sequence[str]) -> list[Difference]:
    """Each metric of a setting."""
    return [_difference(pair, metric) for metric in metrics]


def _difference(pair: SettingPair, metric: str) -> Difference:
    values = [[_numbers(run).get(metric) for run in side] for side in (pair.before, pair.after)]
    known = [[value for value in side if value is not None] for side in values]
    before, after = (float(np.median(side)) if side else None for side in known)
    ratio = after / before if before and after is not None else None
    interval, drawn = _interval(pair, metric, values)
    low, high = interval or (None, None)
    return Difference(pair.label, metric, before, after, ratio, low, high, drawn)


def _interval(
    pair: SettingPair, metric: str, values: list[list[float | None]]
) -> tuple[tuple[float, float] | None, str]:
    repeats = len(pair.before)
    rng = np.random.default_rng(SEED)
    if metric in BY_REQUEST:
        what, statistic = BY_REQUEST[metric]
        sides = _per_request(pair, what)
        if sides is not None:
            interval = ratio_interval(*sides, statistic, rng)
            return interval, ("requests and repeats" if repeats > 1 else "requests") if interval else "nothing"
    if repeats < 2 or any(value is None for side in values for value in side):
        return None, "nothing"
    before, after = (np.array(side, dtype=float)[:, None, None] for side in values)
    interval = ratio_interval(before, after, percentile(50), rng)
    return interval, "repeats" if interval else "nothing"


def _per_request(pair: SettingPair, what: str) -> tuple[Values, Values] | None:
    """[repeats, requests, columns] of both sides, of the requests that all runs completed; None without tables."""
    runs = (*pair.before, *pair.after)
    tables = [_columns(run, what) for run in runs]
    known = [table for table in tables if table is not None]
    if len(known) < len(runs):
        return None
    common = sorted(set.intersection(*(set(table) for table in known)))
    if not common:
        return None
    arrays = np.array([[table[name] for name in common] for table in known])
    return arrays[: len(pair.before)], arrays[len(pair.before) :]


def _columns(run: ComparedRun, what: str) -> dict[str, tuple[float, ...]] | None:
    """By request id: a latency in ms, or emitted tokens and rounds (of `drafts` those that drafted)."""
    if run.tables is None:
        return None
    if what in ("rounds", "drafts"):
        rounds = run.tables.rounds
        rounds = rounds if what == "rounds" else rounds[rounds["drafted"] > 0]
        sums = rounds.groupby("request_id")["emitted"].agg(["sum", "count"])
        return {str(name): (float(total), float(count)) for name, total, count in sums.itertuples()}
    ids = completed_requests(run.tables.requests)["request_id"]
    samples = latency_samples(run.tables)
    values: Values = {"ttft": samples.ttft_ms, "tpot": samples.tpot_ms, "e2el": samples.e2el_ms}[what]
    return {str(name): (float(value),) for name, value in zip(ids, values, strict=True) if not np.isnan(value)}


def _numbers(run: ComparedRun) -> dict[str, float]:
    content: Mapping[str, Any] = flat(run.summary)
    return {
        key: float(value)
        for key, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not key.startswith("slo_ms")
    }
