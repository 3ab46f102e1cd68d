"""The figures that decide, each beside the bar that it is held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from benchmarks.gpu.part import Part

Table = pd.DataFrame


@dataclass(frozen=True)
class Figure:
    """One number of a part's table."""

    what: str
    part: str
    bar: str
    """In words; empty where nothing is to be reached."""
    of: Callable[[Table], float | None]
    """None where the rows that it needs are not there."""
    holds: Callable[[float], bool] | None = None
    """Whether the bar is reached."""
    is_time: bool = True
    """Whether it means nothing without a GPU."""


@dataclass(frozen=True)
class Judged:
    """A figure as it was found."""

    figure: Figure
    value: float | None
    verdict: str
    """`met`, `missed`, `no bar`, `no GPU`, or `not measured` with the reason."""


def judged(parts: Mapping[str, Part], on_gpu: bool) -> list[Judged]:
    """Every figure, those that were not measured as well."""
    return [_judged(figure, parts[figure.part], on_gpu) for figure in FIGURES]


def _judged(figure: Figure, part: Part, on_gpu: bool) -> Judged:
    value = None if part.table is None else figure.of(part.table)
    if value is None:
        return Judged(figure, None, f"not measured: {part.reason or 'its rows are not there'}")
    if figure.holds is None:
        return Judged(figure, value, "no bar")
    if figure.is_time and not on_gpu:
        return Judged(figure, value, "no GPU")
    if not figure.holds(value):
        return Judged(figure, value, "missed")
    # of a part that ended early the rows behind are still to be seen
    return Judged(figure, value, "met" if part.reason is None else f"met so far: {part.reason}")


def _at(table: Table, column: str, **where: object) -> float | None:
    for name, wanted in where.items():
        if name not in table:
            return None
        table = table[table[name] == wanted]
    if column not in table or table[column].dropna().empty:
        return None
    return float(table[column].dropna().iloc[0])


def _ratio(table: Table, column: str, over: Mapping[str, object], under: Mapping[str, object]) -> float | None:
    first, second = _at(table, column, **over), _at(table, column, **under)
    return first / second if first is not None and second else None


def _verify_over_step(table: Table) -> float | None:
    widest = int(table["rows_per_request"].max())
    if widest == 1:  # a part that ran out of time may have no more than its first row
        return None
    return _ratio(table, "device_ms", {"batch": 1, "rows_per_request": widest}, {"batch": 1, "rows_per_request": 1})


def _throughput(method: str, over: str, batch: int) -> Callable[[Table], float | None]:
    return lambda table: _ratio(
        table, "output_throughput", {"method": method, "batch": batch}, {"method": over, "batch": batch}
    )


def _error_percent(metric: str) -> Callable[[Table], float | None]:
    def of(table: Table) -> float | None:
        error = _at(table, "error", of="validation", metric=metric)
        return None if error is None else 100 * abs(error)

    return of


def _num_wrong(table: Table) -> float:
    return float((~table["right"].astype(bool)).sum())


FIGURES = (
    Figure(
        "plain step at batch 1, times the memory's limit", "steps", "<= 1.15",
        lambda table: _at(table, "times_the_limit", batch=1, rows_per_request=1), lambda value: value <= 1.15,
    ),
    Figure(
        "verification of 5 tokens over a plain step, batch 1", "steps", "<= 1.10", _verify_over_step,
        lambda value: value <= 1.10,
    ),
    Figure(
        "host share of a plain step, batch 1", "steps", "< 0.05",
        lambda table: _at(table, "host_share", batch=1, rows_per_request=1), lambda value: value < 0.05,
    ),
    Figure(
        "worst step of all batches, times the memory's limit", "steps", "",
        lambda table: float(table["times_the_limit"].max()),
    ),
    Figure(
        "draft step of the small shape in a graph, us", "drafts", "<= 150",
        lambda table: _at(table, "device_us_per_token", batch=1), lambda value: value <= 150,
    ),
    Figure(
        "times that the host waits in a draft", "waits", "0", lambda table: float(table["in_a_draft"].max()),
        lambda value: value == 0,
    ),
    Figure(
        "times that the host waits in a verification", "waits", "1",
        lambda table: float(table["in_a_verification"].max()), lambda value: value == 1,
    ),
    Figure(
        "gain of two streams over one, largest", "overlap", "", lambda table: float(table["gain"].max()),
    ),
    Figure(
        "kernel cases further from float64 than their dtype allows", "kernels", "0", _num_wrong,
        lambda value: value == 0, is_time=False,
    ),
    Figure(
        "attention at the long context, lowest share of copy bandwidth", "bandwidth", ">= 0.70",
        lambda table: float(table["share_of_copy"].min()), lambda value: value >= 0.70,
    ),
    Figure(
        "padded attention over decomposed, time", "layouts", "",
        lambda table: _ratio(
            table, "time_us", {"layout": "padded", "by": "torch"}, {"layout": "decomposed", "by": "kernels"}
        ),
    ),
    Figure(
        "runs whose answers part from plain decoding's at no near tie", "losslessness", "0", _num_wrong,
        lambda value: value == 0, is_time=False,
    ),
    *(
        Figure(f"throughput of {method} over {over}, batch {batch}", "serving", "", _throughput(method, over, batch))
        for method, over, batch in (
            ("spin", "plain", 8), ("joint", "plain", 8), ("spin", "generate", 8), ("plain", "generate", 8),
            ("fixed", "assisted", 1),
        )
    ),
    Figure(
        "simulated throughput, error in %", "validation", "<= 3", _error_percent("output_throughput"),
        lambda value: value <= 3,
    ),
    *(
        Figure(
            f"simulated TPOT {name}, error in %", "validation", "<= 5", _error_percent(f"{key}_tpot_ms"),
            lambda value: value <= 5,
        )
        for name, key in (("p50", "median"), ("p90", "p90"))
    ),
)  # fmt: skip
"""In the order of the parts."""
