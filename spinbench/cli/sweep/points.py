"""The points of a command as a sweep's: each with its key, done once by a launcher, kept in the sweep's folder."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinbench.cli.config.replay import NOT_OF_A_RUN, ReplayConfig
from spinbench.cli.config.sweep import LauncherSection, SweepSection
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.hydra_app.override_value import section_of
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import utc_now
from spinbench.cli.sweep.input_digests import InputDigests, code_version
from spinbench.cli.sweep.launch import launch
from spinbench.cli.sweep.progress import show_sweep
from spinbench.metrics.store import Kept
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.point import SweepPoint, folder_name
from spinbench.sweep.table import write_table


@dataclass(frozen=True)
class PointSettings:
    """What all points of a command share."""

    launcher: LauncherSection
    sweep: SweepSection
    keep: Kept
    is_simulation: bool
    wants_gpu: bool


class PointKeys:
    """Gives points their keys; what runs here and what they are made from is read once."""

    def __init__(self) -> None:
        self._digests = InputDigests()
        self._codes: dict[bool, dict[str, Any]] = {}

    def sweep_point(self, point: Point, plain: Mapping[str, Any], config: ReplayConfig, label: str) -> SweepPoint:
        """The point, given its config as plain values and checked. Raises UserError when a file cannot be read."""
        is_simulation = config.engine.kind == "simulation"
        if is_simulation not in self._codes:
            self._codes[is_simulation] = code_version(is_simulation)
        run = {key: value for key, value in plain.items() if key not in NOT_OF_A_RUN}
        key = self._digests.key(config, run, self._codes[is_simulation])
        kept = tuple(one for one in point.overrides if not _is_of_sweep(one))
        return SweepPoint(key, folder_name(label, key), run, point.choices, kept)


def do_points(
    folder: SweepFolder,
    listed: Sequence[SweepPoint],
    settings: PointSettings,
    command: str,
    replay: Replay,
    quiet: bool = False,
) -> int:
    """Do those of the folder's points that are neither done nor failed, in their order; gives how many those were.

    `quiet`: say nothing of single points. Raises UserError as `launch`, and KeyboardInterrupt on Ctrl-C.
    """
    pending = [point for point in listed if not (folder.is_done(point) or folder.is_failed(point))]
    if pending:
        facts = {
            "command": command,
            "launcher": settings.launcher.model_dump(),
            "keep": settings.keep,
            "is_simulation": settings.is_simulation,
            "machine": platform.node(),
            "started": utc_now(),
        }
        code = code_version(settings.is_simulation)
        session = folder.begin(pending, code, settings.sweep.max_attempts, facts)
        try:
            with show_sweep(len(pending)) as progress:
                launch(settings.launcher, folder, session, replay, progress, settings.wants_gpu, quiet)
        except KeyboardInterrupt as interrupt:
            write_table(folder)
            done = sum(map(folder.is_done, listed))
            raise KeyboardInterrupt(
                f"{done} of {len(listed)} points are done; the same command goes on with the rest"
            ) from interrupt
    write_table(folder)
    return len(pending)


def _is_of_sweep(override: str) -> bool:
    return section_of(override) in NOT_OF_A_RUN
