"""What a validation says: which figures are judged, by what limits, and how many are within them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spinbench.errors import UserError
from spinbench.metrics.validation import RoundsCompared
from spinbench.report.pages.cells import Cell

VALIDATION_FILE = "validation.csv"
JOBS_FILE = "jobs.csv"
SCORES_FILE = "tables/held-out-jobs.csv"
THROUGHPUT_LIMIT = 0.03
"""Largest relative error of output_throughput that counts as true."""
LATENCY_LIMIT = 0.05
"""The same for median and p90 of TTFT and TPOT, where the noise floor is not larger."""
JUDGED = {
    "output_throughput": THROUGHPUT_LIMIT,
    **{f"{statistic}_{latency}_ms": LATENCY_LIMIT for latency in ("ttft", "tpot") for statistic in ("median", "p90")},
}
"""What the verdict is about; the other rows are for reading."""
COLUMNS = ("load", "metric", "kind", "real", "noise", "simulated", "error")


@dataclass(frozen=True)
class Verdict:
    """The short form of a validation, for a page about something else."""

    headlines: list[str]
    judged: pd.DataFrame
    """Rows of the validation that the verdict is about."""
    jobs: pd.DataFrame | None
    """What jobs took beside what the profile says of them, as `validate` keeps it; None from earlier versions."""
    scores: pd.DataFrame | None
    """Errors of the profile on jobs that it was not fitted to; None from earlier versions."""


def is_judged(load: float, metric: str) -> bool:
    """Whether a row counts for the verdict: time is promised below and at capacity, beyond it only shown."""
    return metric in JUDGED and load <= 1


def limit(metric: str, noise: float) -> float:
    """What the error of a judged metric may be: its limit, and for latencies the noise where that is larger."""
    own = JUDGED[metric]
    return own if metric == "output_throughput" or math.isnan(noise) else max(own, noise)


def is_within(metric: str, noise: float, error: float) -> bool:
    """Whether the error of a judged metric is one that it may have."""
    return abs(error) <= limit(metric, noise)


def decision_lines(load: float, rounds: Sequence[RoundsCompared]) -> list[str]:
    """Of real runs at a load whose decisions were made again: a line for those that agree, one for each other."""
    agreeing = [run.num_parts for run in rounds if run.first_difference is None]
    lines: list[str] = []
    if agreeing:
        lines.append(f"load {load:g}: {_equal(sum(agreeing), sum(agreeing))}, in {len(agreeing)} of {len(rounds)} runs")
    for run in rounds:
        if run.first_difference is None:
            continue
        how_far = f"{_equal(run.num_equal, run.num_parts)}; first difference" if run.num_equal else "the two part ways"
        lines.append(f"load {load:g}: {how_far}: {run.first_difference}")
    return lines


def _equal(count: int, of: int) -> str:
    return f"{count:,} of {of:,} (round, request) pairs equal"


def headlines(table: pd.DataFrame) -> list[str]:
    """How many judged figures are within their limits, and the error of the throughput at each load."""
    judged = [row for row in _records(table) if is_judged(row["load"], row["metric"])]
    missed = [row for row in judged if not is_within(row["metric"], row["noise"], row["error"])]
    verdict = f"{len(judged) - len(missed)} of {len(judged)} judged figures are within their limits"
    if missed:
        worst = ", ".join(f"{row['metric']} at load {row['load']:g} ({row['error']:+.1%})" for row in missed)
        verdict += f"; outside: {worst}"
    lines = [
        f"load {row['load']:g}: simulated throughput is {row['error']:+.1%} off ({row['simulated']:.1f} against "
        f"{row['real']:.1f} tokens/s; the real runs differ by up to {row['noise']:.1%})"
        for row in _records(table[table["metric"] == "output_throughput"])
    ]
    return [verdict, *lines]


def metric_cells(rows: pd.DataFrame, *, with_load: bool = False) -> tuple[tuple[str, ...], list[list[Cell]]]:
    """Headers and rows: real, noise, simulated, error and verdict of each figure."""
    cells = []
    for row in _records(rows):
        metric, relative = str(row["metric"]), row["kind"] == "ratio"
        verdict = ""
        if is_judged(row["load"], metric):
            verdict = "yes" if is_within(metric, row["noise"], row["error"]) else "NO"
        texts = (
            *([f"{row['load']:g}"] if with_load else []),
            metric,
            f"{row['real']:.4g}",
            ("±{:.1%}" if relative else "±{:.3f}").format(row["noise"]),
            f"{row['simulated']:.4g}",
            ("{:+.1%}" if relative else "{:+.3f}").format(row["error"]),
            verdict,
        )
        numbers = (
            *([row["load"]] if with_load else []), None, row["real"], row["noise"], row["simulated"], row["error"],
            None,
        )  # fmt: skip
        cells.append([Cell(text, number=number) for text, number in zip(texts, numbers, strict=True)])
    headers = ("metric", "real (median)", "noise floor", "simulated", "error", "within limit")
    return ("load", *headers) if with_load else headers, cells


def read_verdict(folder: Path) -> Verdict:
    """The verdict of the validation in `folder`. Raises UserError if there is none, or it is damaged."""
    table = read_validation(folder)
    shown = table[[is_judged(*pair) for pair in zip(table["load"], table["metric"], strict=True)]]
    jobs = _kept(folder / JOBS_FILE)
    return Verdict(
        headlines(table), shown, None if jobs is None else _shown_jobs(jobs, folder), _kept(folder / SCORES_FILE)
    )


def read_validation(folder: Path) -> pd.DataFrame:
    """The table of the validation in `folder`. Raises UserError if there is none, or it is damaged."""
    path = folder / VALIDATION_FILE
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the folder of a finished `spinbench validate`") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]}; a validation has {', '.join(COLUMNS)}")
    return table


def find_validation(folders: Sequence[Path]) -> Path | None:
    """The first of the folders that holds a finished validation."""
    return next((folder for folder in folders if (folder / VALIDATION_FILE).is_file()), None)


def run_jobs(errors: pd.DataFrame) -> pd.DataFrame:
    """Every kind of job of real runs as texts: what it took, and the error of the profile."""
    shown = pd.DataFrame(
        {
            "job": errors["job"].str.replace("_", "-"),
            "lane": errors["lane"],
            "load": errors["load"].map("{:g}".format),
            "jobs": errors["jobs"],
            "share of time": errors["share_of_time"].map("{:.1%}".format),
            "real (ms)": errors["real_mean_ms"].map("{:.2f}".format),
            "by the profile (ms)": errors["expected_mean_ms"].map("{:.2f}".format),
            "error": errors["error"].map(signed_percent),
        }
    )
    if "pace_error" in errors:
        shown["of its own jobs, timed again"] = errors["pace_error"].map(signed_percent)
    return shown


def signed_percent(share: float) -> str:
    """A share as a percentage with its sign; empty where it is not known."""
    return "" if math.isnan(share) else f"{share:+.1%}"


def _kept(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _shown_jobs(jobs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    try:
        return run_jobs(jobs)
    except KeyError as error:
        raise UserError(f"{folder / JOBS_FILE}: has no column {error}") from error


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
