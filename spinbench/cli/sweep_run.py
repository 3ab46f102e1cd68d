"""`spinbench replay -m`: every point composed and checked, then done once, by whatever launcher the config names."""

import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from spinbench.cli.hydra_app import Point, check_each
from spinbench.cli.input_digests import InputDigests, code_version, without_paths
from spinbench.cli.launch import launch
from spinbench.cli.provenance import command_line
from spinbench.cli.replay_command import Replay
from spinbench.cli.schema import NOT_OF_A_RUN, ReplayConfig, parse_config, require_one_process, resolved
from spinbench.cli.sweep_config import LauncherSection, ProcessesSection, SweepSection
from spinbench.cli.sweep_progress import show_sweep
from spinbench.errors import UserError
from spinbench.metrics.store import Kept
from spinbench.sweep.folder import TABLE_FILE, Session, SweepFolder
from spinbench.sweep.point import MAX_LABEL_BYTES, SweepPoint, folder_name, point_key
from spinbench.sweep.status import failure_kinds
from spinbench.sweep.table import write_table
from spinbench.sweep.worker import forget_failure

SOME_FAILED = 1
"""Exit code of a sweep with failed points."""


@dataclass(frozen=True)
class _Settings:
    """What all points of a sweep share."""

    launcher: LauncherSection
    sweep: SweepSection
    keep: Kept
    is_simulation: bool
    wants_gpu: bool


def run_sweep(points: Sequence[Point], path: Path, arguments: Sequence[str]) -> int:
    """Do the points in the sweep's folder; returns the exit code: 0, or 1 where some failed.

    Raises UserError when anything is wrong with any point, before the first starts, and KeyboardInterrupt on Ctrl-C.
    """
    replay = Replay()
    settings, asked = _checked(replay, points, path)
    folder = SweepFolder(path)
    listed = folder.add(asked)
    for point in listed:
        if settings.sweep.retry_failed and folder.is_failed(point) and not folder.is_done(point):
            forget_failure(folder, point)
    pending = [point for point in listed if not (folder.is_done(point) or folder.is_failed(point))]
    if pending:
        session = _begin(folder, pending, settings, arguments)
        try:
            with show_sweep(len(pending)) as progress:
                launch(settings.launcher, folder, session, replay, progress, settings.wants_gpu)
        except KeyboardInterrupt as interrupt:
            write_table(folder)
            done = sum(map(folder.is_done, listed))
            raise KeyboardInterrupt(
                f"{done} of {len(listed)} points are done; the same command goes on with the rest"
            ) from interrupt
    write_table(folder)
    return _conclude(folder, listed, len(listed) - len(pending))


def _checked(replay: Replay, points: Sequence[Point], path: Path) -> tuple[_Settings, list[SweepPoint]]:
    """What is to be done, each point once. Raises UserError for the first point that cannot be."""
    digests = InputDigests()
    codes: dict[bool, dict[str, Any]] = {}
    found: list[tuple[_Settings, SweepPoint]] = []
    varying = _varying(points)

    def check(point: Point) -> None:
        plain = resolved(point.config)
        config = parse_config(plain, ReplayConfig)
        replay.check_config(config)
        require_one_process(config.engine)
        settings = _settings(config)
        if found and found[0][0] != settings:
            raise UserError("launcher, sweep, keep and engine.kind are of a whole sweep; each can have one value")
        run = {key: value for key, value in plain.items() if key not in NOT_OF_A_RUN}
        if settings.is_simulation not in codes:
            codes[settings.is_simulation] = code_version(settings.is_simulation)
        key = point_key(without_paths(run), codes[settings.is_simulation], digests.of(config))
        kept = tuple(one for one in point.overrides if not _is_of_sweep(one))
        name = folder_name(_label(point, path, varying), key)
        found.append((settings, SweepPoint(key, name, run, point.choices, kept)))

    check_each(points, check)
    return found[0][0], [point for _, point in found]


def _settings(config: ReplayConfig) -> _Settings:
    if config.launcher is None or config.sweep is None:
        raise UserError("launcher and sweep are missing; they are keys of conf/replay.yaml")
    is_simulation = config.engine.kind == "simulation"
    launcher = config.launcher
    if isinstance(launcher, ProcessesSection) and not is_simulation and launcher.workers != 1:
        raise UserError(
            f"launcher is processes and engine.kind {config.engine.kind}: real runs beside each other would disturb "
            "what they measure; set launcher=serial or launcher.workers=1"
        )
    wants_gpu = getattr(config.engine, "device", None) == "cuda"
    return _Settings(launcher, config.sweep, config.keep, is_simulation, wants_gpu)


def _is_of_sweep(override: str) -> bool:
    return override.lstrip("+~").partition("=")[0].partition(".")[0] in NOT_OF_A_RUN


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


def _begin(
    folder: SweepFolder, pending: Sequence[SweepPoint], settings: _Settings, arguments: Sequence[str]
) -> Session:
    facts = {
        "command": command_line("replay", arguments),
        "launcher": settings.launcher.model_dump(),
        "keep": settings.keep,
        "is_simulation": settings.is_simulation,
        "machine": platform.node(),
        "started": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return folder.begin(pending, code_version(settings.is_simulation), settings.sweep.max_attempts, facts)


def _conclude(folder: SweepFolder, listed: Sequence[SweepPoint], before: int) -> int:
    """Print what became of the points; the exit code."""
    failed = [point for point in listed if not folder.is_done(point)]
    for kind in failure_kinds(folder, listed, failed):
        print(f"failed: {kind}", file=sys.stderr)
    counts = Counter(done=len(listed) - len(failed), failed=len(failed))
    already = f", {before} of them before" if before else ""
    text = f"{len(listed)} points: {counts['done']} done, {counts['failed']} failed{already}; table in "
    Console().print(text + escape(str(folder.path / TABLE_FILE)), highlight=False, soft_wrap=True)
    return SOME_FAILED if failed else 0
