"""Cells of tables: the noise beside the number, the best of each column marked; and a table as Markdown."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

ABSENT = "–"
MANY = 1000
"""From here on numbers are shown without what is behind the point."""


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and whether its number is the best of its column."""

    text: str
    is_best: bool = False
    number: float | None = None
    """What the text rounds, to sort by; None for texts, and where there is none."""

    def markdown(self) -> str:
        """The text for a Markdown table, in bold when it is the best."""
        text = self.text.replace("|", "\\|")
        return f"**{text}**" if self.is_best else text


@dataclass(frozen=True)
class _Column:
    header: str
    key: str
    show: Callable[[dict[str, Any]], str]
    best: Callable[[list[float]], float] | None = None


def _number(key: str, digits: int) -> Callable[[dict[str, Any]], str]:
    return lambda row: ABSENT if math.isnan(row[key]) else f"{row[key]:,.{digits}f}"


def _with_spread(key: str, digits: int, suffix: str = "") -> Callable[[dict[str, Any]], str]:
    def show(row: dict[str, Any]) -> str:
        if math.isnan(row[key]):
            return ABSENT
        middle = f"{row[key]:.{digits}f}{suffix}"
        if row["repeats"] < 2:
            return middle
        return f"{middle} ({row[f'{key}_min']:.{digits}f}..{row[f'{key}_max']:.{digits}f})"

    return show


COLUMNS = (
    _Column("method", "method", lambda row: str(row["method"])),
    _Column("output tokens/s (min..max)", "tokens_per_s", _with_spread("tokens_per_s", 1), max),
    _Column("speed-up over plain (min..max)", "speedup", _with_spread("speedup", 2, "x"), max),
    _Column("acceptance length", "acceptance_length", _number("acceptance_length", 2), max),
    _Column("TTFT p50 (ms)", "ttft_p50_ms", _number("ttft_p50_ms", 0), min),
    _Column("TTFT p99 (ms)", "ttft_p99_ms", _number("ttft_p99_ms", 0), min),
    _Column("TPOT p50 (ms)", "tpot_p50_ms", _number("tpot_p50_ms", 1), min),
    _Column("TPOT p99 (ms)", "tpot_p99_ms", _number("tpot_p99_ms", 1), min),
    _Column("repeats", "repeats", lambda row: str(row["repeats"])),
)
OF_DEVICES = (
    _Column("devices", "devices", lambda row: str(row["devices"])),
    _Column("tokens/s per device", "tokens_per_s_per_device", _number("tokens_per_s_per_device", 1), max),
)
"""Shown where a setting takes more than one."""


def comparison_cells(table: pd.DataFrame) -> tuple[tuple[str, ...], list[list[Cell]]]:
    """Headers and rows of a `comparison_table` as cells; what reads the same as the best is marked too."""
    rows = table.to_dict("records")
    shown = (*COLUMNS[:3], *OF_DEVICES, *COLUMNS[3:]) if (table["devices"] > 1).any() else COLUMNS
    columns = [_column_cells(column, rows) for column in shown]
    return tuple(column.header for column in shown), [list(cells) for cells in zip(*columns, strict=True)]


def _column_cells(column: _Column, rows: list[dict[Any, Any]]) -> list[Cell]:
    texts = [column.show(row) for row in rows]
    values = [row[column.key] for row in rows]
    if isinstance(values[0], str):
        return [Cell(text) for text in texts]
    numbers = [None if math.isnan(value) else float(value) for value in values]
    defined = [number for number in numbers if number is not None]
    if column.best is None or len(defined) < 2:
        return [Cell(text, number=number) for text, number in zip(texts, numbers, strict=True)]
    best_text = texts[numbers.index(column.best(defined))].split(" ")[0]
    return [Cell(text, text.split(" ")[0] == best_text, number) for text, number in zip(texts, numbers, strict=True)]


def markdown_table(headers: tuple[str, ...], rows: list[list[Cell]], is_text: Sequence[bool] = (True,)) -> str:
    """A Markdown table, text columns to the left and the others to the right."""
    frame = pd.DataFrame([[cell.markdown() for cell in row] for row in rows], columns=pd.Index(headers))
    align = ["left" if text else "right" for text in (*is_text, *[False] * (len(headers) - len(is_text)))]
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align))


def frame_cells(frame: pd.DataFrame, digits: int = 2, counts: Collection[str] = ()) -> list[list[Cell]]:
    """Any table as cells: floats with `digits` below 1000, missing values as a dash, nothing marked.

    Medians of `counts`, by the name of their column, are whole numbers or lie between two.
    """

    def show(value: Any, column: str) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ABSENT
        if not isinstance(value, float):
            return str(value)
        if column in counts:
            return f"{value:,.{0 if value.is_integer() else 1}f}"
        return f"{value:.{digits}f}" if abs(value) < MANY else f"{value:,.0f}"

    def number(value: Any) -> float | None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        return float(value) if is_number else None

    rows = frame.astype(object).to_numpy().tolist()
    names = [str(name) for name in frame.columns]
    return [
        [Cell(show(value, name), number=number(value)) for value, name in zip(row, names, strict=True)] for row in rows
    ]


def text_columns(frame: pd.DataFrame) -> tuple[bool, ...]:
    """Which columns of a table hold texts."""
    return tuple(not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes)
