"""Numbers and gains as the answer's page shows them."""

import math
from collections.abc import Mapping, Sequence

from spinbench.report.answer.gain import Gain
from spinbench.report.comparison.paired import PairedRatio
from spinbench.report.pages.cells import ABSENT, MANY, Cell
from spinbench.report.pages.document import Table

SMALL_MB = 10
"""Below, tenths of a megabyte are shown."""


def answer_table(columns: Mapping[str, bool], rows: Sequence[Sequence[Cell | str]], note: str = "") -> Table:
    """A table of the page; `columns` says of each header whether texts are below it."""
    cells = [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows]
    return Table(tuple(columns), cells, tuple(columns.values()), note, None)


def gain_text(one: Gain | None) -> str:
    """A gain and its bounds; a dash where the baseline reaches nothing."""
    if one is None:
        return ABSENT
    high = "unbounded" if math.isinf(one.high) else f"{one.high:.2f}x"
    return f"{one.ratio:.2f}x ({one.low:.2f}x to {high})"


def ratio_text(one: PairedRatio) -> str:
    """A measured ratio, with its smallest and largest; a dash where there is none."""
    if math.isnan(one.median):
        return ABSENT
    return f"{one.median:.2f}x ({one.low:.2f}..{one.high:.2f})"


def number_text(value: float) -> str:
    """Four digits, from a thousand on without a fraction; a dash for none."""
    if math.isnan(value):
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= MANY else f"{value:.4g}"


def megabytes_text(count: int) -> str:
    """Bytes in megabytes."""
    size = count / 1e6
    return f"{size:.1f}" if 0 < size < SMALL_MB else f"{size:,.0f}"
