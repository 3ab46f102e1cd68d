"""Real runs of several methods in turns: within a repeat each runs once, so that a slow spell hits all alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from spinbench.cli.config.replay import ReplayConfig, parse_config, resolved
from spinbench.cli.config.sweep import SerialSection, SweepSection
from spinbench.cli.hydra_app.app import Point, check_each, compose_points
from spinbench.cli.replay.command import Replay
from spinbench.cli.sweep.points import PointKeys, PointSettings, do_points
from spinbench.json_file import read_json
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, SweepFolder, reason_of
from spinbench.sweep.point import MAX_LABEL_BYTES, SweepPoint

METRICS = ("output_throughput", "request_goodput", "acceptance_length", "mean_e2el_ms", "total_output_tokens")
"""What is kept of each run."""


def run_in_turns(
    folder: Path, methods: Mapping[str, Sequence[str]], repeats: int, command: str, replay: Replay, quiet: bool = True
) -> pd.DataFrame:
    """One row per run: `method`, `repeat`, `failure` and `METRICS`; by repeat, then in the order of `methods`.

    `methods` are overrides of `spinbench replay`. Models stay loaded between runs, and each run warms up first. What
    lies in `folder` is not run again. Raises UserError for overrides that are wrong, before anything runs.
    """
    store, keys = SweepFolder(folder), PointKeys()
    plan = [(repeat, name) for repeat in range(repeats) for name in methods]
    composed = compose_points("replay", [[*methods[name], f"repeat={repeat}"] for repeat, name in plan])
    asked: list[SweepPoint] = []

    def add(point: Point) -> None:
        plain = resolved(point.config)
        config = parse_config(plain, ReplayConfig)
        replay.check_config(config)
        label = f"{config.repeat} {plan[len(asked)][1]}".replace("/", "_")[:MAX_LABEL_BYTES]
        asked.append(keys.sweep_point(point, plain, config, label))

    check_each([points[0] for points in composed], add)
    listed = {point.key: point for point in store.add(asked)}
    settings = PointSettings(
        SerialSection(kind="serial"), SweepSection(retry_failed=False, max_attempts=1), "tables",
        is_simulation=False, wants_gpu=False,
    )  # fmt: skip
    do_points(store, [listed[point.key] for point in asked], settings, command, replay, quiet)
    rows = [
        {"method": name, "repeat": repeat, **_outcome(store, listed[point.key])}
        for (repeat, name), point in zip(plan, asked, strict=True)
    ]
    return pd.DataFrame(rows)


def _outcome(store: SweepFolder, point: SweepPoint) -> dict[str, object]:
    path = store.folder_of(point)
    if store.is_done(point):
        metrics = read_json(path / POINT_FILE)["metrics"]
        return {"failure": "", **{name: metrics.get(name) for name in METRICS}}
    return {"failure": reason_of(read_json(path / FAILURE_FILE)), **dict.fromkeys(METRICS)}
