"""`spinbench sweep`: how far a sweep is, and the table of its points."""

import argparse
import sys
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spinbench.cli.one_line_parser import OneLineParser
from spinbench.errors import UserError
from spinbench.sweep.folder import TABLE_FILE, SweepFolder
from spinbench.sweep.point import points_text
from spinbench.sweep.status import SweepStatus, sweep_status
from spinbench.sweep.table import FIRST_COLUMNS, varying_columns, write_table

SHOWN_METRICS = ("output_throughput", "acceptance_length", "p99_ttft_ms", "p99_tpot_ms")
"""Metrics that the table shows without being asked."""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(arguments)
    folder = SweepFolder(args.folder)
    if args.action == "status":
        _print_status(args.folder, sweep_status(folder))
    else:
        _print_table(write_table(folder), args.metrics, args.sort, args.limit)
        place = escape(str(args.folder / TABLE_FILE))
        Console().print(f"every column is in {place}", highlight=False, soft_wrap=True)
    return 0


def _print_status(path: Path, status: SweepStatus) -> None:
    left = "" if status.left_s is None else f"; about {_duration(status.left_s)} left"
    print(
        f"{path}: {points_text(status.total)}: {status.done} done, {status.failed} failed, {status.running} running, "
        f"{status.missing} missing{left}"
    )
    for kind in status.failures:
        print(f"failed: {kind}\n  at length: {kind.path}")
    if status.failures:
        print("to try failed points again, give their command with sweep.retry_failed=true")
    if status.missing and not status.running:
        print("nobody is at the missing points now; to go on, give their command again")
        for command in status.commands:
            print(f"  {command}")
    if status.done == status.total:
        print(f"its points: spinbench sweep table {path}; compared: spinbench report {path}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_table(table: pa.Table, metrics: list[str] | None, sort: str | None, limit: int) -> None:
    shown = tuple(metrics or SHOWN_METRICS)
    wanted = [*varying_columns(table), *shown]
    for name in (*(metrics or ()), *([sort] if sort else ())):
        if name not in table.column_names:
            raise UserError(f"no column {name!r}; columns are {', '.join(table.column_names)}")
    wanted = [name for name in wanted if name in table.column_names]
    if "failed" in table.column("status").to_pylist():
        wanted = [*FIRST_COLUMNS[1:], *wanted]
    by = sort or next((name for name in shown if name in table.column_names), "key")
    order = "ascending" if by in ("key", *varying_columns(table)) else "descending"
    rows = table.sort_by([(by, order)]).slice(0, limit).select(wanted).to_pylist()
    cells = [[_cell(row[name]) for name in wanted] for row in rows]
    if sys.stdout.isatty():
        view = Table(*map(escape, wanted))
        for line in cells:
            view.add_row(*map(escape, line))
        Console().print(view)
    else:  # for other programs, and for paper: whole lines however wide
        for line in (wanted, *cells):
            print("\t".join(line))
    if table.num_rows > limit:
        print(f"first {limit} of {table.num_rows} points, by {by}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="spinbench sweep", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="status|table")
    status = actions.add_parser("status", help="points done, failed and why, running, missing; time left")
    table = actions.add_parser("table", help="gather all points into points.parquet and show them")
    for action in (status, table):
        action.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder (hydra.sweep.dir)")
    shown = ", ".join(SHOWN_METRICS)
    table.add_argument("--metrics", nargs="+", metavar="COLUMN", help=f"columns to show (default {shown})")
    table.add_argument(
        "--sort", metavar="COLUMN", help="column to sort by, metrics from the largest (default: the first shown)"
    )
    table.add_argument("--limit", type=int, default=50, metavar="N", help="rows to show at most (default 50)")
    return parser
