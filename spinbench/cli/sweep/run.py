"""`spinbench replay -m`: every point composed and checked, then done once, by whatever launcher the config names."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from spinbench.cli.config.replay import ReplayConfig, parse_config, require_one_process, resolved
from spinbench.cli.config.sink import SinkSection, make_sink
from spinbench.cli.config.sweep import ProcessesSection
from spinbench.cli.hydra_app.app import Point, check_each
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import command_line
from spinbench.cli.sweep.points import PointKeys, PointSettings, do_points
from spinbench.cli.sweep.sink import send_points
from spinbench.errors import UserError
from spinbench.sweep.folder import TABLE_FILE, SweepFolder
from spinbench.sweep.point import MAX_LABEL_BYTES, SweepPoint, points_text
from spinbench.sweep.status import failure_kinds
from spinbench.sweep.worker import forget_failure

SOME_FAILED = 1
"""Exit code of a sweep with failed points."""


@dataclass(frozen=True)
class _Settings:
    """What all points of a sweep share."""

    points: PointSettings
    sink: SinkSection


def run_sweep(points: Sequence[Point], path: Path, arguments: Sequence[str]) -> int:
    """Do the points in the sweep's folder; returns the exit code: 0, or 1 where some failed.

    Raises UserError when anything is wrong with any point, before the first starts, and KeyboardInterrupt on Ctrl-C.
    """
    replay = Replay()
    settings, asked = _checked(replay, points, path)
    sink = make_sink(settings.sink)
    folder = SweepFolder(path)
    listed = folder.add(asked)
    for point in listed:
        if settings.points.sweep.retry_failed and folder.is_failed(point) and not folder.is_done(point):
            forget_failure(folder, point)
    before = len(listed) - do_points(folder, listed, settings.points, command_line("replay", arguments), replay)
    if sink is not None:
        send_points(folder, listed, settings.sink.kind, sink)
    return _conclude(folder, listed, before)


def _checked(replay: Replay, points: Sequence[Point], path: Path) -> tuple[_Settings, list[SweepPoint]]:
    """What is to be done, each point once. Raises UserError for the first point that cannot be."""
    keys = PointKeys()
    found: list[tuple[_Settings, SweepPoint]] = []
    varying = _varying(points)

    def check(point: Point) -> None:
        plain = resolved(point.config)
        config = parse_config(plain, ReplayConfig)
        replay.check_config(config)
        require_one_process(config.engine)
        settings = _settings(config)
        if found and found[0][0] != settings:
            raise UserError("launcher, sweep, keep, sink and engine.kind are of a whole sweep; each can have one value")
        found.append((settings, keys.sweep_point(point, plain, config, _label(point, path, varying))))

    check_each(points, check)
    return found[0][0], [point for _, point in found]


def _settings(config: ReplayConfig) -> _Settings:
    if config.launcher is None or config.sweep is None or config.sink is None:
        raise UserError("launcher, sweep and sink must be there; they are keys of conf/replay.yaml")
    is_simulation = config.engine.kind == "simulation"
    launcher = config.launcher
    if isinstance(launcher, ProcessesSection) and not is_simulation and launcher.workers != 1:
        raise UserError(
            f"launcher is processes and engine.kind {config.engine.kind}: real runs beside each other would disturb "
            "what they measure; set launcher=serial or launcher.workers=1"
        )
    wants_gpu = getattr(config.engine, "device", None) == "cuda"
    return _Settings(PointSettings(launcher, config.sweep, config.keep, is_simulation, wants_gpu), config.sink)


def _varying(points: Sequence[Point]) -> set[str]:
    """The overrides in which the points differ."""
    common = set.intersection(*(set(point.overrides) for point in points)) if points else set()
    return {one for point in points for one in point.overrides} - common


def _label(point: Point, path: Path, varying: set[str]) -> str:
    """What the folder is called for a reader: as `hydra.sweep.subdir` says, or only what varies where that is long."""
    name = point.folder.relative_to(path).as_posix() if point.folder.is_relative_to(path) else point.folder.name
    if len(name.encode()) > MAX_LABEL_BYTES:
        name = ",".join(sorted(one for one in point.overrides if one in varying))
    return name.replace("/", "_")


def _conclude(folder: SweepFolder, listed: Sequence[SweepPoint], before: int) -> int:
    """Print what became of the points; the exit code."""
    failed = [point for point in listed if not folder.is_done(point)]
    for kind in failure_kinds(folder, listed, failed):
        print(f"failed: {kind}", file=sys.stderr)
    already = f", {before} of them before" if before else ""
    text = f"{points_text(len(listed))}: {len(listed) - len(failed)} done, {len(failed)} failed{already}; table in "
    Console().print(text + escape(str(folder.path / TABLE_FILE)), highlight=False, soft_wrap=True)
    return SOME_FAILED if failed else 0
