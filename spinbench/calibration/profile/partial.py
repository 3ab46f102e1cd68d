"""Measurements as they come, kept so that an interrupted profile goes on where it stopped."""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from spinbench.errors import UserError
from spinbench.text_file import write_text

SETTING_FILE = "unfinished.json"
MEASUREMENTS_FILE = "unfinished.csv"


class PartialProfile:
    """Every timing of an unfinished profile, appended to a file at once; the file goes when the profile is done."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        """Start in `folder`, or go on there if the timings in it are of the same setting; else UserError."""
        self._setting_path, self._path = folder / SETTING_FILE, folder / MEASUREMENTS_FILE
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._history: list[tuple[str, float]] = []
        text = json.dumps(setting, indent=2, sort_keys=True) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._setting_path.exists():
                self._check(text)
                self._read()
            else:
                write_text(self._setting_path, text)
                self._path.unlink(missing_ok=True)
            self._file: TextIO = self._path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise UserError(f"{folder}: cannot keep measurements there: {error.strerror or error}") from error

    @property
    def num_timings(self) -> int:
        """Timings so far."""
        return sum(map(len, self._seconds.values()))

    def count(self, key: str) -> int:
        """Timings of one point."""
        return len(self._seconds[key])

    def seconds(self, key: str) -> list[float]:
        """All timings of one point."""
        return self._seconds[key]

    @property
    def history(self) -> list[tuple[str, float]]:
        """Keys and seconds of all timings, in the order in which they were taken."""
        return self._history

    def add(self, key: str, seconds: float) -> None:
        """Keep one more."""
        self._remember(key, seconds)
        self._file.write(f"{key},{seconds!r}\n")
        self._file.flush()

    def keys_with(self, prefix: str) -> list[str]:
        """Points whose key begins so."""
        return [key for key, seconds in self._seconds.items() if seconds and key.startswith(prefix)]

    def close(self) -> None:
        """Stop writing; what was measured stays."""
        self._file.close()

    def remove(self) -> None:
        """The profile is written: these are not needed any more."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._setting_path.unlink(missing_ok=True)

    def _remember(self, key: str, seconds: float) -> None:
        self._seconds[key].append(seconds)
        self._history.append((key, seconds))

    def _check(self, text: str) -> None:
        before, now = json.loads(self._setting_path.read_text(encoding="utf-8")), json.loads(text)
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise UserError(
                f"{self._setting_path}: an unfinished profile with another {', '.join(changed)} is here; delete the "
                "folder, or set hydra.run.dir to another one"
            )

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        kept = [row for row in rows if len(row) == 2 and _is_number(row[1])]
        for key, seconds in kept:
            self._remember(key, float(seconds))
        # a line that was cut when the process was killed
        write_text(self._path, "".join(f"{key},{seconds}\n" for key, seconds in kept))


def point_key(point: object) -> str:
    """A short name for a point, the same in every process."""
    return hashlib.sha256(repr(point).encode()).hexdigest()[:16]


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
