"""How far a sweep is: points done, failed and running, and how long the rest will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spinbench.json_file import read_json
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, Session, SweepFolder, reason_of
from spinbench.sweep.point import SweepPoint, points_text
from spinbench.sweep.reason import by_reason


@dataclass(frozen=True)
class FailureKind:
    """Points that failed of the same thing."""

    reason: str
    """Type and message."""
    count: int
    example: str
    """What one of them set, beside what all points of the sweep do."""
    path: Path
    """Where it is told at length."""

    def __str__(self) -> str:
        """In one line."""
        example = f" (e.g. {self.example})" if self.example else ""
        return f"{points_text(self.count)}: {self.reason}{example}"


@dataclass(frozen=True)
class SweepStatus:
    """Counts over all points of a sweep."""

    done: int
    failed: int
    running: int
    missing: int
    """Neither done, failed nor running."""
    left_s: float | None
    """Seconds until the last command's points are done, at its pace so far; None where that is not known."""
    failures: tuple[FailureKind, ...]
    commands: tuple[str, ...]
    """Those that go on with what is missing, given again."""

    @property
    def total(self) -> int:
        """All points."""
        return self.done + self.failed + self.running + self.missing


def sweep_status(folder: SweepFolder) -> SweepStatus:
    """How far the sweep in `folder` is. Raises UserError when there is none."""
    points = list(folder.points().values())
    done = [point for point in points if folder.is_done(point)]
    failed = [point for point in points if not folder.is_done(point) and folder.is_failed(point)]
    settled = {point.key for point in (*done, *failed)}
    running = sum(folder.is_running(point) for point in points if point.key not in settled)
    session = folder.last_session()
    left_s = _left_s(folder, session, {point.key: point for point in points}, settled) if session and running else None
    missing = len(points) - len(settled) - running
    kinds, unsettled = failure_kinds(folder, points, failed), {point.key for point in points} - settled
    return SweepStatus(
        len(done), len(failed), running, missing, left_s, kinds, _commands(folder, unsettled) if missing else ()
    )


def failure_kinds(
    folder: SweepFolder, points: Sequence[SweepPoint], failed: Sequence[SweepPoint]
) -> tuple[FailureKind, ...]:
    """The reasons of failures, the most frequent first; `points` are all of the sweep."""
    common = set.intersection(*(set(point.overrides) for point in points)) if points else set()
    reasons = [(point, reason_of(read_json(folder.folder_of(point) / FAILURE_FILE))) for point in failed]
    kinds = sorted(by_reason(reasons), key=lambda kind: -len(kind[0]))
    return tuple(
        FailureKind(
            reason, len(members), " ".join(one for one in members[0].overrides if one not in common),
            folder.folder_of(members[0]) / FAILURE_FILE,
        )
        for members, reason in kinds
    )  # fmt: skip


def _commands(folder: SweepFolder, keys: set[str]) -> tuple[str, ...]:
    """The last commands that were to do these points, so few that each point is one's."""
    found: list[str] = []
    left = set(keys)
    for session in reversed(folder.sessions()):
        command = session.facts.get("command")
        if command and left.intersection(session.keys):
            found.append(str(command))
            left.difference_update(session.keys)
    return tuple(dict.fromkeys(reversed(found)))


def _left_s(folder: SweepFolder, session: Session, points: dict[str, SweepPoint], settled: set[str]) -> float | None:
    """By the points that were settled since the session began."""
    left = sum(key in points and key not in settled for key in session.keys)
    ended_s = [
        path.stat().st_mtime
        for key in session.keys
        if key in settled and key in points
        for path in (folder.folder_of(points[key]) / name for name in (POINT_FILE, FAILURE_FILE))
        if path.is_file()
    ]
    during = sum(moment_s >= session.started_s for moment_s in ended_s)
    return left * (time.time() - session.started_s) / during if during else None
