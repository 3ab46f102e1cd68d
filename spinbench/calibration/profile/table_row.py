"""One row of a profile's tables: a point and its timing, as cells of text and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Role, Timing
from spinbench.control.costs.job_cost import JobKind
from spinbench.control.layout.plan import LayoutKind

Cells = Mapping[str, str]
OPTIONAL_CELLS = {"layout_tokens": "0", "mean_s": ""}
"""Columns that older profiles lack, and what is meant then."""
TIMING_COLUMNS = ("repeats", "median_s", "p10_s", "p90_s", "mean_s")
PASS_COLUMNS = ("model", "attention", "role", "start_tokens", "stop_tokens", "num_head_rows", "layout_tokens")
JOB_COLUMNS = (
    "kind", "lane", "layout", "role", "start_tokens", "stop_tokens", "num_speculative_tokens", "by_lookup",
    "layout_tokens",
)  # fmt: skip
GAP_COLUMNS = ("kind", "next_kind", "num_requests")


def row_cells(point: PassPoint | JobPoint | GapPoint, timing: Timing) -> dict[str, object]:
    """What a point and its timing are written as."""
    columns = {PassPoint: PASS_COLUMNS, JobPoint: JOB_COLUMNS, GapPoint: GAP_COLUMNS}[type(point)]
    cells: dict[str, object] = {}
    for name in columns:
        value = getattr(point, name)
        cells[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    # a nanosecond is finer than any clock here
    return cells | {"repeats": timing.repeats} | {name: f"{getattr(timing, name):.9f}" for name in TIMING_COLUMNS[1:]}


def timing_of(cells: Cells) -> Timing:
    """A row's timing. Raises ValueError naming the column that is wrong."""
    seconds = []
    for name in TIMING_COLUMNS[1:]:
        # an older profile does not know the mean: as if no repeat had been interrupted
        value = _number(cells, "median_s" if name == "mean_s" and not cells[name] else name, float)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"column {name!r} is {cells[name]!r}; it must be a finite number of seconds above 0")
        seconds.append(value)
    repeats = _number(cells, "repeats", int)
    if repeats < 1:
        raise ValueError(f"column 'repeats' is {repeats}; it must be at least 1")
    median_s, p10_s, p90_s, mean_s = seconds
    if not p10_s <= median_s <= p90_s:
        raise ValueError(f"p10_s {p10_s}, median_s {median_s} and p90_s {p90_s} are not in this order")
    return Timing(repeats, median_s, p10_s, p90_s, mean_s)


def pass_point(cells: Cells) -> PassPoint:
    """A row of passes.csv. Raises ValueError naming the column that is wrong."""
    attention = _choice(cells, "attention", ("none", *get_args(LayoutKind)))
    starts, stops = _spans(cells, least_rows=1)
    rows = _number(cells, "num_head_rows", int)
    if not 1 <= rows <= sum(stops) - sum(starts):
        raise ValueError(f"column 'num_head_rows' is {rows}; it must be 1 to the rows of the pass")
    role = _choice(cells, "role", get_args(Role))
    return PassPoint(cells["model"], attention, role, starts, stops, rows, _layout_tokens(cells, attention))


def job_point(cells: Cells) -> JobPoint:
    """A row of jobs.csv. Raises ValueError naming the column that is wrong."""
    kind = _choice(cells, "kind", get_args(JobKind))
    layout = _choice(cells, "layout", get_args(LayoutKind) if kind == "verify" else ("",))
    starts, stops = _spans(cells, least_rows=0 if kind == "draft" else 1)
    lengths, copied = _ints(cells, "num_speculative_tokens", 1), _ints(cells, "by_lookup", 0)
    expected = len(stops) if kind == "draft" else 0
    for name, values in (("num_speculative_tokens", lengths), ("by_lookup", copied)):
        if len(values) != expected:
            raise ValueError(f"column {name!r} has {len(values)} numbers; a {kind} job of this size has {expected}")
    if set(copied) - {0, 1}:
        raise ValueError("column 'by_lookup' holds other numbers than 0 and 1")
    role = _choice(cells, "role", get_args(Role))
    return JobPoint(kind, cells["lane"], layout, role, starts, stops, lengths, copied, _layout_tokens(cells, layout))


def gap_point(cells: Cells) -> GapPoint:
    """A row of host.csv. Raises ValueError naming the column that is wrong."""
    count = _number(cells, "num_requests", int)
    if count < 1:
        raise ValueError(f"column 'num_requests' is {count}; it must be at least 1")
    kind, next_kind = (_choice(cells, name, get_args(JobKind)) for name in ("kind", "next_kind"))
    return GapPoint(kind, next_kind, count)


def _choice(cells: Cells, name: str, choices: Sequence[str]) -> Any:
    if cells[name] not in choices:
        raise ValueError(f"column {name!r} is {cells[name]!r}; it must be {' or '.join(map(repr, choices))}")
    return cells[name]


def _layout_tokens(cells: Cells, layout: str) -> int:
    least = {"grouped": 0, "decomposed": 1}.get(layout)
    tokens = _number(cells, "layout_tokens", int)
    if (least is None and tokens) or tokens < (least or 0):
        expected = "0" if least is None else f"at least {least}"
        raise ValueError(f"column 'layout_tokens' is {tokens}; of layout {layout or 'none'} it must be {expected}")
    return tokens


def _number(cells: Cells, name: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(cells[name])
    except ValueError:
        raise ValueError(f"column {name!r} is {cells[name]!r}; it must be a number") from None


def _ints(cells: Cells, name: str, least: int) -> tuple[int, ...]:
    try:
        values = tuple(map(int, cells[name].split()))
    except ValueError:
        raise ValueError(f"column {name!r} is {cells[name]!r}; it must be whole numbers with blanks between") from None
    if any(value < least for value in values):
        raise ValueError(f"column {name!r} holds a number below {least}")
    return values


def _spans(cells: Cells, least_rows: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    starts, stops = _ints(cells, "start_tokens", 0), _ints(cells, "stop_tokens", 1)
    if not stops or len(starts) != len(stops):
        raise ValueError(f"{len(starts)} start_tokens and {len(stops)} stop_tokens; there must be as many, at least 1")
    if any(stop - start < least_rows for start, stop in zip(starts, stops, strict=True)):
        raise ValueError("a request's stop_tokens must lie behind its start_tokens")
    return starts, stops
