"""What `spinbench capacity` does: searches in simulation, and leaves the curve as tables and a figure."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from spinbench.cli.capacity.config import CapacityConfig, replay_config
from spinbench.cli.capacity.runs import CapacityRuns
from spinbench.cli.config.replay import ReplayConfig, parse_config, resolved
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.out_folder import require_empty
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import CodeFacts, command_line, method_label
from spinbench.cli.sweep.progress import SweepProgress, show_sweep
from spinbench.errors import UserError
from spinbench.json_file import read_json, write_json
from spinbench.metrics.capacity import Capacity, Load, find_capacity
from spinbench.metrics.slo import parse_slo
from spinbench.report.csv_file import write_csv
from spinbench.report.figures.capacity import capacity_plot
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.table import write_table

QUESTION_FILE = "question.json"
"""What the folder's runs were made for, written first."""
RESULT_FILE = "capacity.json"
"""Written last: a folder without it has no answer yet."""
FIGURES = "figures"
SHOWN = ("output_throughput", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms", "p99_e2el_ms")
"""Metrics of runs that the table has beside the loads: means over the draws of a rate."""


class FindCapacity:
    """The command, with the files that its points share."""

    def __init__(self) -> None:
        self._replay = Replay()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config or folder; simulates nothing."""
        plain = resolved(point.config)
        config = parse_config(plain, CapacityConfig)
        if config.slo is None:
            raise UserError("slo is null; set the latency limits that shall be kept, as in slo='ttft:200 tpot:50'")
        parse_slo(config.slo)
        self._replay.check_config(parse_config(replay_config(plain, 1.0, 0), ReplayConfig))
        question = point.folder / QUESTION_FILE
        if not question.is_file():
            require_empty(point.folder)
        elif read_json(question) != plain:
            raise UserError(f"{point.folder}: holds a search of another config; set hydra.run.dir to another folder")

    def run(self, point: Point) -> None:
        """Search, and leave the answer in the point's folder; a search that was cut short goes on.

        Raises UserError where no rate is the answer, and KeyboardInterrupt on Ctrl-C.
        """
        plain = resolved(point.config)
        config = parse_config(plain, CapacityConfig)
        write_json(point.folder / QUESTION_FILE, plain)
        with show_sweep(_expected_runs(config)) as progress:
            capacity, rows = self._search(point, plain, config, progress)
        for load in capacity.disorder:
            print(
                f"warning: at {load.request_rate:g} requests/s, below the capacity, only {load.share_within:.2%} of "
                "requests keep the SLO: noise; raise repeats or trace.num_prompts",
                file=sys.stderr,
            )
        self._write(point, config, capacity, rows)
        _print(point, config, capacity)

    def _search(
        self, point: Point, plain: Mapping[str, Any], config: CapacityConfig, progress: SweepProgress
    ) -> tuple[Capacity, pd.DataFrame]:
        runs = CapacityRuns(self._replay, point, plain, config, progress)
        try:
            capacity = find_capacity(runs.load_at, config.goal, config.tolerance)
            further = {float(f"{share * capacity.request_rate:.6g}") for share in config.curve}
            loads = {load.request_rate: load for load in capacity.loads}
            loads |= {rate: runs.load_at(rate) for rate in sorted(further - set(loads))}
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                "runs that are done are kept; the same command goes on with the rest"
            ) from interrupt
        rows = [_row(loads[rate], config.goal, runs.summaries[rate]) for rate in sorted(loads)]
        return capacity, pd.DataFrame(rows)

    def _write(self, point: Point, config: CapacityConfig, capacity: Capacity, rows: pd.DataFrame) -> None:
        assert config.slo is not None
        code = CodeFacts.here()
        write_table(SweepFolder(point.folder))
        method = config.method or method_label(point.choices["selector"], config)
        plot = capacity_plot(rows, capacity, config.slo, method)
        plot.save(point.folder / FIGURES)
        write_csv(point.folder / "capacity.csv", rows)
        result = {
            "request_rate": capacity.request_rate,
            "fails_at": capacity.fails_at,
            "request_rate_std_error": _std_error(config, capacity),
            "saturation_rate": capacity.saturation_rate,
            "goal": config.goal,
            "slo_ms": parse_slo(config.slo),
            "replicas": config.replicas,
            "router": point.choices["router"] if config.replicas > 1 else None,
            "method": method,
            "num_requests": int(rows["num_requests"].max()),
            "points": [
                {
                    key: None if isinstance(value, float) and not math.isfinite(value) else value
                    for key, value in row.items()
                }
                for row in rows.to_dict("records")
            ],
            "versions": dict(code.versions),
            "git_commit": code.git_commit,
            "command": command_line("capacity", point.overrides),
        }
        write_json(point.folder / RESULT_FILE, result)


def _row(load: Load, goal: float, summaries: list[Mapping[str, Any]]) -> dict[str, Any]:
    shown = {key: [one[key] for one in summaries if one[key] is not None] for key in SHOWN}
    return {
        **asdict(load),
        "share_within": load.share_within,
        "keeps_goal": load.share_within >= goal,
        "request_goodput": load.share_within * load.request_throughput,
        **{key: sum(values) / len(values) if values else None for key, values in shown.items()},
    }


def _expected_runs(config: CapacityConfig) -> int:
    """About as many as it takes: all at once, two or three rates to begin with, halvings, and the curve."""
    halvings = math.ceil(math.log2(0.5 / config.tolerance)) if config.tolerance < 0.5 else 0
    return 1 + config.repeats * (3 + halvings + len(config.curve))


def _std_error(config: CapacityConfig, capacity: Capacity) -> float:
    """Of the capacity, in requests per second.

    The mean of n gaps of a gamma law, whose squared coefficient of variation is 1 / burstiness, is off by a share of
    1 / sqrt(n x burstiness), and with it the rate that really came.
    """
    num_requests = max(load.num_requests for load in capacity.loads)
    return capacity.request_rate / math.sqrt(num_requests * config.burstiness)


def _print(point: Point, config: CapacityConfig, capacity: Capacity) -> None:
    kept = next(load for load in capacity.loads if load.request_rate == capacity.request_rate)
    console = Console()
    replicas = f" on {config.replicas} replicas" if config.replicas > 1 else ""
    console.print(
        f"[bold]{capacity.request_rate:.4g} requests/s[/]{replicas}: {kept.num_within} of {kept.num_requests} keep "
        f"{escape(config.slo or '')} (goal {config.goal:.6g}); at {capacity.fails_at:.4g} fewer do than the goal",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        f"  give or take {_std_error(config, capacity):.2g} requests/s (standard error) for the draw of the "
        "gaps; more requests or repeats make it less",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    share = capacity.request_rate / capacity.saturation_rate
    console.print(
        f"  {share:.0%} of the {capacity.saturation_rate:.4g} requests/s that are finished when all are there at once",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"  in {escape(str(point.folder))}", highlight=False, soft_wrap=True)
