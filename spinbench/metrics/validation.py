"""How far simulated figures are from measured ones, beside what the measured ones differ among themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spinbench.control.arrays import FloatArray
from spinbench.control.selector.merged import MERGED
from spinbench.metrics.latency import completed_requests, latency_samples
from spinbench.metrics.store import Run
from spinbench.metrics.tables import RunTables

RATIO_KEYS = (
    "output_throughput",
    "request_throughput",
    *(
        f"{statistic}_{latency}_ms"
        for latency in ("ttft", "tpot", "e2el")
        for statistic in ("mean", "median", "p90", "p99")
    ),
    "acceptance_length",
)
"""Keys of summary.json whose error is relative."""
SHARE_KEYS = ("padding_share", "bubble_share", "host_share")
"""Keys whose error is a difference, in units of 1: relative to a share near 0 it would mean nothing."""
LATENCIES = ("ttft", "tpot", "e2el")


@dataclass(frozen=True, slots=True)
class RoundsCompared:
    """Drafter, drafted and accepted tokens of every (round, request), real against simulated."""

    num_parts: int
    num_equal: int
    first_difference: str | None


@dataclass(frozen=True, slots=True, eq=False)
class JobsCompared:
    """What jobs took, beside what a cost model expects of the very same jobs."""

    kind: tuple[str, ...]
    lane: tuple[str, ...]
    real_s: FloatArray
    expected_s: FloatArray

    def followed_by(self, later: "JobsCompared") -> "JobsCompared":
        """These and later ones."""
        return JobsCompared(
            self.kind + later.kind,
            self.lane + later.lane,
            np.concatenate([self.real_s, later.real_s]),
            np.concatenate([self.expected_s, later.expected_s]),
        )


@dataclass(frozen=True, slots=True)
class DecidedAgain:
    """A real run, made again by the simulator with the real durations."""

    rounds: RoundsCompared
    jobs: JobsCompared
    """Up to where the two part ways, if they do."""


def job_errors(runs: Sequence[JobsCompared]) -> pd.DataFrame:
    """Per kind of job and lane, over all runs: how many, share of all jobs' time, means in ms, error of the expected.

    The error is that of the sums, so that of the time that a simulated run spends on these jobs.
    """
    table = pd.DataFrame(
        {
            "job": [kind for run in runs for kind in run.kind],
            "lane": [lane for run in runs for lane in run.lane],
            "real_s": np.concatenate([run.real_s for run in runs]) if runs else np.empty(0),
            "expected_s": np.concatenate([run.expected_s for run in runs]) if runs else np.empty(0),
        }
    )
    groups = table.groupby(["job", "lane"], sort=False)
    sums, means = groups[["real_s", "expected_s"]].sum(), groups[["real_s", "expected_s"]].mean() * 1e3
    errors = pd.DataFrame(
        {
            "jobs": groups.size(),
            "share_of_time": sums["real_s"] / sums["real_s"].sum(),
            "real_mean_ms": means["real_s"],
            "expected_mean_ms": means["expected_s"],
            "error": sums["expected_s"] / sums["real_s"] - 1,
        }
    )
    return errors.sort_values("share_of_time", ascending=False).reset_index()


def validation_table(real: Sequence[Run], simulated: Run) -> pd.DataFrame:
    """One row per metric: median, smallest and largest of the real runs, noise, simulated value, error.

    `noise` is the largest distance of a real run from the median and `error` that of the simulated value, signed; both
    relative to the median, but for shares (`kind` = difference).
    """
    rows = []
    for key in RATIO_KEYS:
        rows.append(_row(key, "ratio", [run.summary[key] for run in real], simulated.summary[key]))
    for key in SHARE_KEYS:
        rows.append(_row(key, "difference", [run.summary[key] for run in real], simulated.summary[key]))
    lanes = dict.fromkeys(lane for run in (*real, simulated) for lane in run.summary["lane_occupancy"])
    for lane in lanes:
        values = [run.summary["lane_occupancy"].get(lane, 0.0) for run in real]
        rows.append(
            _row(f"occupancy of {lane}", "difference", values, simulated.summary["lane_occupancy"].get(lane, 0.0))
        )
    return pd.DataFrame([row for row in rows if row is not None])


def request_errors(real: Sequence[Run], simulated: Run) -> pd.DataFrame:
    """Per latency, the relative error of single requests and the noise: mean absolute value, median and p90.

    A request's real value is its median over the runs; its noise the largest distance of a run from that.
    """
    rows = []
    for latency in LATENCIES:
        table = pd.DataFrame({index: request_latency_ms(run.tables, latency) for index, run in enumerate(real)})
        simulated_ms = request_latency_ms(simulated.tables, latency).reindex(table.index)
        middle = table.median(axis=1)
        error = ((simulated_ms - middle) / middle).abs()
        noise = table.sub(middle, axis=0).abs().max(axis=1) / middle
        known = error.notna()
        rows.append(
            {
                "latency": latency,
                "requests": int(known.sum()),
                "mean_error": error[known].mean(),
                "median_error": error[known].median(),
                "p90_error": error[known].quantile(0.9),
                "mean_noise": noise[known].mean(),
                "median_noise": noise[known].median(),
                "p90_noise": noise[known].quantile(0.9),
            }
        )
    return pd.DataFrame(rows)


def compare_rounds(real: pd.DataFrame, simulated: pd.DataFrame) -> RoundsCompared:
    """Two tables of rounds, matched by (round, request).

    Where several drafters drafted together, what their wrong tokens have in common is not recorded, and the simulator's
    `drafted` is a bound: it must not be below the real one.
    """
    keys, facts = ["round_index", "request_id"], ["drafter", "num_speculative_tokens", "drafted", "accepted"]
    both = real[keys + facts].merge(
        simulated[keys + facts], on=keys, how="outer", suffixes=("", "_simulated"), indicator=True
    )
    equal = both["_merge"] == "both"
    for fact in facts:
        ours, theirs = both[f"{fact}_simulated"], both[fact]
        is_bound = (both["drafter"] == MERGED) & (fact == "drafted") & (ours >= theirs)
        equal &= (ours == theirs) | (ours.isna() & theirs.isna()) | is_bound
    first = None
    if not equal.all():
        row = both[~equal].sort_values(keys).iloc[0]
        shown = ", ".join(f"{fact} {row[fact]} real, {row[f'{fact}_simulated']} simulated" for fact in facts)
        first = f"round {row['round_index']}, request {row['request_id']}: {shown}"
    return RoundsCompared(len(both), int(equal.sum()), first)


def _row(metric: str, kind: str, real: Sequence[Any], simulated: Any) -> dict[str, Any] | None:
    if simulated is None or any(value is None for value in real):
        return None  # e.g. the share of padding where nothing is verified
    values = np.array(real, float)
    middle = float(np.median(values))
    scale = middle if kind == "ratio" else 1.0
    return {
        "metric": metric,
        "kind": kind,
        "real": middle,
        "real_min": float(values.min()),
        "real_max": float(values.max()),
        "noise": float(np.abs(values - middle).max() / scale) if scale else float("nan"),
        "simulated": float(simulated),
        "error": (float(simulated) - middle) / scale if scale else float("nan"),
    }


def request_latency_ms(tables: RunTables, latency: str) -> pd.Series:
    """`ttft`, `tpot` or `e2el` of each completed request in ms, by request id; NaN where it has none."""
    samples = latency_samples(tables)
    values = {"ttft": samples.ttft_ms, "tpot": samples.tpot_ms, "e2el": samples.e2el_ms}[latency]
    return pd.Series(values, index=completed_requests(tables.requests)["request_id"].to_numpy())
