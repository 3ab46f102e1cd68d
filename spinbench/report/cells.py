"""Tables as Markdown text: the noise beside the number, the best of each column marked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

ABSENT = "–"


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and whether its number is the best of its column."""

    text: str
    is_best: bool = False

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
HEADERS = tuple(column.header for column in COLUMNS)


def comparison_cells(table: pd.DataFrame) -> list[list[Cell]]:
    """The rows of `comparison_table` as cells under `HEADERS`; what reads the same as the best is marked too."""
    rows = table.to_dict("records")
    columns = [_column_cells(column, rows) for column in COLUMNS]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _column_cells(column: _Column, rows: list[dict[Any, Any]]) -> list[Cell]:
    texts = [column.show(row) for row in rows]
    numbers = [row[column.key] for row in rows] if column.best else []
    defined = [number for number in numbers if not math.isnan(number)]
    if column.best is None or len(defined) < 2:
        return [Cell(text) for text in texts]
    best_text = texts[numbers.index(column.best(defined))].split(" ")[0]
    return [Cell(text, text.split(" ")[0] == best_text) for text in texts]


def markdown_table(headers: tuple[str, ...], rows: list[list[Cell]], is_text: Sequence[bool] = (True,)) -> str:
    """A Markdown table, text columns to the left and the others to the right."""
    frame = pd.DataFrame([[cell.markdown() for cell in row] for row in rows], columns=pd.Index(headers))
    align = ["left" if text else "right" for text in (*is_text, *[False] * (len(headers) - len(is_text)))]
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align))


def frame_cells(frame: pd.DataFrame, digits: int = 2) -> list[list[Cell]]:
    """Any table as cells: floats with `digits`, missing values as a dash, nothing marked."""

    def show(value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ABSENT
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    return [[Cell(show(value)) for value in row] for row in frame.astype(object).to_numpy().tolist()]
