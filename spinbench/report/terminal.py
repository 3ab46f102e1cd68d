"""The comparison as a table in the terminal."""

import math
import sys
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spinbench.report.compare import comparison_table, fastest
from spinbench.report.focus import at_few_loads, focus
from spinbench.report.headlines import headlines
from spinbench.report.lossless import check_outputs
from spinbench.report.pages.cells import ABSENT
from spinbench.report.section import Loaded

WIDTH_WITHOUT_TERMINAL = 110
"""Characters, where the output goes to a file or a log."""


def print_table(loaded: Loaded, console: Console | None = None) -> None:
    """Prints per section the table of every load, who is fastest, and whether the outputs equal plain decoding.

    The best throughput, and what cannot be told apart from it, is bold. Raises UserError for damaged tables.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    sections, interrupted = loaded
    for section in sections:
        simulated = ", simulated" if section.is_simulated else ""
        what = f"{section.target}, trace {section.trace}, {section.dtype}{simulated}"
        shown = focus(section)
        for load in shown.loads:
            left_out = len(section.at(load)) - len(shown.at(load))
            more = f" ({left_out} more settings in the report)" if left_out else ""
            console.print(_table(comparison_table(shown, load), f"{load.label}: {what}{more}"))
        for line in [*headlines(at_few_loads(shown)), check_outputs(section).sentence]:
            console.print(line.replace("**", ""), markup=False, highlight=False)
    for folder in interrupted:
        console.print(f"left out, interrupted: {folder}", markup=False, highlight=False)


def _table(rows: pd.DataFrame, title: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("method", justify="left", overflow="fold")
    for header in (
        "output\ntokens/s",
        "min..max",
        "speed-up\nover plain",
        "accept.\nlength",
        "TTFT (ms)\np50 / p99",
        "TPOT (ms)\np50 / p99",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    best = fastest(rows)
    for row in rows.to_dict("records"):
        texts = [
            escape(str(row["method"])),
            _number(row["tokens_per_s"], 1),
            f"{row['tokens_per_s_min']:.1f}..{row['tokens_per_s_max']:.1f}" if row["repeats"] > 1 else "one run",
            ABSENT if math.isnan(row["speedup"]) else f"{row['speedup']:.2f}x",
            _number(row["acceptance_length"], 2),
            f"{_number(row['ttft_p50_ms'], 0)} / {_number(row['ttft_p99_ms'], 0)}",
            f"{_number(row['tpot_p50_ms'], 1)} / {_number(row['tpot_p99_ms'], 1)}",
        ]
        table.add_row(*texts, style="bold" if row["method"] in best else None)
    return table


def _number(value: Any, digits: int) -> str:
    return ABSENT if math.isnan(value) else f"{value:.{digits}f}"
