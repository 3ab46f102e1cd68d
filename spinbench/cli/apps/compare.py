"""`spinbench compare A B`: what differs between two runs or sweeps, and whether it is more than noise."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spinbench.cli.one_line_parser import OneLineParser
from spinbench.errors import UserError
from spinbench.json_file import write_json
from spinbench.report.comparison.compared_run import Comparison, load_side, pair_sides
from spinbench.report.comparison.difference import Difference, differences, metrics_of
from spinbench.report.comparison.fail_if import Condition, parse_condition, unknown_metric

FAILS = 1
"""Exit code when a condition of --fail-if holds."""
SHOWN_METRICS = (
    "output_throughput", "acceptance_length", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms",
    "mean_e2el_ms",
)  # fmt: skip
"""Metrics that are compared without being asked for."""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code: 0, or 1 when a condition of --fail-if holds."""
    args = _parser().parse_args(arguments)
    comparison = pair_sides(load_side(args.a), load_side(args.b))
    known = metrics_of(comparison.pairs)
    conditions = [parse_condition(text, known) for text in args.fail_if]
    metrics = list(dict.fromkeys((*(args.metrics or SHOWN_METRICS), *(one.metric for one in conditions))))
    for metric in args.metrics or ():
        if metric not in known:
            raise UserError(f"--metrics: {unknown_metric(metric, known)}")
    found = [one for pair in comparison.pairs for one in differences(pair, metrics)]
    failed = _failed(conditions, found)
    _print(args.a, args.b, comparison, found)
    for condition, one in failed:
        print(f"fails: {condition.text}{_where(one)}: A {_number(one.before)}, B {_number(one.after)}")
    write_json(args.output, _content(args, comparison, found, conditions, failed))
    Console().print(f"all of it is in {escape(str(args.output))}", highlight=False, soft_wrap=True)
    return FAILS if failed else 0


def _failed(conditions: Sequence[Condition], found: Sequence[Difference]) -> list[tuple[Condition, Difference]]:
    return [
        (condition, difference)
        for condition in conditions
        for difference in found
        if difference.metric == condition.metric
        and condition.holds(difference.before, difference.after, _where(difference))
    ]


def _where(difference: Difference) -> str:
    return f" at {difference.setting}" if difference.setting else ""


def _print(before: Path, after: Path, comparison: Comparison, found: Sequence[Difference]) -> None:
    console = Console(soft_wrap=True)
    pairs = comparison.pairs
    repeats = sorted({len(pair.before) for pair in pairs})
    console.print(f"A is {escape(str(before))}, B is {escape(str(after))}", highlight=False)
    console.print(
        f"{len(pairs)} {'setting' if len(pairs) == 1 else 'settings'} in common, "
        f"{' to '.join(dict.fromkeys(map(str, (repeats[0], repeats[-1]))))} "
        f"{'repeat' if repeats[-1] == 1 else 'repeats'} each; "
        f"only in A: {comparison.only_before}, only in B: {comparison.only_after}",
        highlight=False,
    )
    for name, (one, other) in comparison.differing.items():
        console.print(escape(f"  {name}: {one} -> {other}"), highlight=False)
    if not comparison.differing:
        console.print("  no config key differs", highlight=False)
    several = len(pairs) > 1
    headers = (*(["setting"] if several else []), "metric", "A", "B", "B / A", "95 % interval", "verdict")
    table = Table(*headers)
    for one in found:
        interval = "-" if one.low is None or one.high is None else f"{one.low:.3f}..{one.high:.3f} ({one.drawn})"
        ratio = "-" if one.ratio is None else f"{one.ratio:.3f}"
        cells = (one.metric, _number(one.before), _number(one.after), ratio, interval, one.verdict)
        table.add_row(*map(escape, (*([one.setting] if several else []), *cells)))
    Console(width=None if Console().is_terminal else 200).print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _content(
    args: argparse.Namespace,
    comparison: Comparison,
    found: Sequence[Difference],
    conditions: Sequence[Condition],
    failed: Sequence[tuple[Condition, Difference]],
) -> dict[str, Any]:
    return {
        "a": str(args.a),
        "b": str(args.b),
        "differing": {name: {"a": one, "b": other} for name, (one, other) in comparison.differing.items()},
        "settings": [
            {
                "setting": dict(pair.setting),
                "a": [str(run.folder) for run in pair.before],
                "b": [str(run.folder) for run in pair.after],
            }
            for pair in comparison.pairs
        ],
        "only_in_a": comparison.only_before,
        "only_in_b": comparison.only_after,
        "differences": [{**asdict(one), "verdict": one.verdict} for one in found],
        "conditions": [
            {"condition": one.text, "fails_at": [where.setting for other, where in failed if other is one]}
            for one in conditions
        ],
        "fails": bool(failed),
    }


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="spinbench compare",
        description="What differs between two runs, or the settings that two sweeps share, in config and in result.",
        epilog="Exit code: 0, 1 when a condition of --fail-if holds anywhere, 2 for bad input.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="a run's folder, or one that holds runs: what was")
    parser.add_argument("b", type=Path, metavar="B", help="the same for what is")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="METRIC OP NUMBER (B's own), NUMBERx (B over A) or NUMBER%% (change), e.g. 'output_throughput < 0.97x'",
    )
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help=f"default: {', '.join(SHOWN_METRICS)}")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("compare.json"), metavar="FILE",
        help="the same for programs (default: compare.json)",
    )  # fmt: skip
    return parser
