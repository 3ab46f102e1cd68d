"""A sweep's folder: the list of its points, the commands that ran them, a folder for each point, the table of all."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spinbench.errors import UserError
from spinbench.json_file import read_json, write_json
from spinbench.sweep.point import SweepPoint

FORMAT = 1
"""Version of the folder's layout, stored in sweep.json."""
MANIFEST_FILE = "sweep.json"
STATE_FOLDER = ".sweep"
TABLE_FILE = "points.parquet"
POINT_FILE = "point.json"
"""Written last: a point without it is not done."""
FAILURE_FILE = "failure.json"
LOCK_WAIT_S = 60.0
"""Longest wait for another command that writes the list of points or the table; either takes a second at most."""


def reason_of(failure: Mapping[str, Any]) -> str:
    """Why a point failed, by the content of its failure.json: `type: message`."""
    return f"{failure.get('type')}: {failure.get('message')}"


@dataclass(frozen=True)
class Session:
    """One command's part in a sweep."""

    name: str
    keys: tuple[str, ...]
    """The points that it was told to do, in their order."""
    code: Mapping[str, Any]
    max_attempts: int
    """Workers that may die of one point before it counts as failed."""
    started_s: float
    """Seconds since the epoch."""
    facts: Mapping[str, Any]
    """Provenance: command, launcher, machine, date."""


class SweepFolder:
    """Where a sweep is kept. Any number of processes and machines may use it at once, if they share its file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether a sweep was ever begun here."""
        return (self.path / MANIFEST_FILE).is_file()

    def require(self) -> None:
        """Raise UserError when there is no sweep here, with what is."""
        if not self.exists():
            raise UserError(f"{self.path}: no sweep here ({self._what_is_here()})")

    def points(self) -> dict[str, SweepPoint]:
        """The points by key, in the order in which they were first asked for.

        Raises UserError when there is no sweep here, or its list is damaged or too new.
        """
        self.require()
        path = self.path / MANIFEST_FILE
        content = read_json(path)
        if not isinstance(content.get("points"), list) and "format" not in content:
            raise UserError(f"{path}: has no list 'points', so it is not of a sweep of spinbench")
        if content.get("format") != FORMAT:
            raise UserError(f"{path}: key 'format' is {content.get('format')!r}, this version reads {FORMAT}")
        if not isinstance(content.get("points"), list):
            raise UserError(f"{path}: has no list 'points'")
        points = (SweepPoint.of_dict(one, str(path)) for one in content["points"])
        return {point.key: point for point in points}

    def _what_is_here(self) -> str:
        """What a folder without a sweep is, and where the sweep may be that was meant."""
        if not self.path.is_dir():
            return "no such folder"
        if (self.path.parent / MANIFEST_FILE).is_file():
            return f"it is in a sweep's folder, {self.path.parent}"
        inside = sorted(path.parent.name for path in self.path.glob(f"*/{MANIFEST_FILE}"))
        if inside:
            more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
            return f"there is one in {self.path / inside[0]}{more}"
        return f"{MANIFEST_FILE}, which `spinbench replay -m` leaves, is missing"

    def add(self, points: Iterable[SweepPoint]) -> list[SweepPoint]:
        """Put points on the list; gives them with the folders that they have, each once.

        A point that is there keeps its folder. One of the same config, but of other code or other inputs, leaves the
        list, as its result is out of date; its folder stays.
        """
        with self.locked("manifest"):
            known = self.points() if self.exists() else {}
            asked = {point.key: point for point in points}
            asked = {key: replace(point, folder=known[key].folder) if key in known else point
                     for key, point in asked.items()}  # fmt: skip
            renewed = {point.config_sha256 for key, point in asked.items() if key not in known}
            kept = {key: point for key, point in known.items() if key in asked or point.config_sha256 not in renewed}
            if kept.keys() != known.keys() or asked.keys() - known.keys():
                listed = [point.as_dict() for point in (kept | asked).values()]
                write_json(self.path / MANIFEST_FILE, {"format": FORMAT, "points": listed}, indent=None)
        return list(asked.values())

    def begin(
        self, points: Sequence[SweepPoint], code: Mapping[str, Any], max_attempts: int, facts: Mapping[str, Any]
    ) -> Session:
        """Note that a command is about to do these points."""
        keys = tuple(point.key for point in points)
        session = Session(f"{time.time_ns()}", keys, code, max_attempts, time.time(), facts)
        content = {
            "keys": list(keys),
            "code": dict(code),
            "max_attempts": max_attempts,
            "started_s": session.started_s,
            "facts": dict(facts),
        }
        write_json(self._session_path(session.name), content)
        self._lock_path("").mkdir(exist_ok=True)
        return session

    def session(self, name: str) -> Session:
        """A command's part by its name. Raises UserError when there is none."""
        path = self._session_path(name)
        content = read_json(path)
        try:
            return Session(
                name, tuple(content["keys"]), content["code"], int(content["max_attempts"]),
                float(content["started_s"]), content["facts"],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: damaged: {error}") from error

    def last_session(self) -> Session | None:
        """The command that was begun last; None before the first."""
        names = self._session_names()
        return self.session(names[-1]) if names else None

    def sessions(self) -> list[Session]:
        """All of them, the first first; none where no sweep is."""
        return [self.session(name) for name in self._session_names()]

    def commands(self) -> list[str]:
        """The commands that ran points here, each once, the first first."""
        return list(
            dict.fromkeys(str(one.facts["command"]) for one in self.sessions() if one.facts.get("command"))
        )  # fmt: skip

    def folder_of(self, point: SweepPoint) -> Path:
        """Where the point's run is."""
        return self.path / point.folder

    def is_done(self, point: SweepPoint) -> bool:
        """Whether its result is whole."""
        return (self.path / point.folder / POINT_FILE).is_file()

    def is_failed(self, point: SweepPoint) -> bool:
        """Whether it failed, and was not begun again since."""
        return (self.path / point.folder / FAILURE_FILE).is_file()

    def is_running(self, point: SweepPoint) -> bool:
        """Whether some process is at it: whoever holds its lock, which dies with the process."""
        if not self._lock_path(point.key).is_file():
            return False
        try:
            with self.lock(point):
                return False
        except Timeout:
            return True

    def lock(self, point: SweepPoint) -> AbstractContextManager[object]:
        """The point's lock, an flock, which the system frees when its holder dies. Entering raises Timeout if held."""
        return FileLock(self._lock_path(point.key), timeout=0)

    def locked(self, what: str) -> AbstractContextManager[object]:
        """A lock for the list of points or the table."""
        folder = self.path / STATE_FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made: {error.strerror or error}") from error
        return FileLock(folder / f"{what}.lock", timeout=LOCK_WAIT_S)

    @property
    def logs(self) -> Path:
        """Where workers' output goes."""
        return self.path / STATE_FOLDER / "logs"

    def _lock_path(self, key: str) -> Path:
        return self.path / STATE_FOLDER / "locks" / key

    def _session_names(self) -> list[str]:
        return sorted(path.stem for path in (self.path / STATE_FOLDER / "commands").glob("*.json"))

    def _session_path(self, name: str) -> Path:
        return self.path / STATE_FOLDER / "commands" / f"{name}.json"
