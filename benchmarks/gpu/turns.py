"""Replays of several methods in a process of its own, and other commands in one, ended when their time is over."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.part import Allowance, NotMeasured
from spinbench.json_file import read_json
from spinbench.sweep.folder import FAILURE_FILE, SweepFolder

LOOK_S = 0.5
CHAIN = "import json, sys; from spinbench.cli.main import main; sys.exit(any(map(main, json.loads(sys.argv[1]))))"
"""Commands one after the other up to the first that fails: what they import, and the GPU's context, are there once."""


@dataclass(frozen=True)
class Replayed:
    """A method's run, or why there is none."""

    method: str
    folder: Path
    failure: str | None


class Turns:
    """Replays that have begun: one process does them in their order, with models loaded once."""

    def __init__(self, folder: Path, common: Sequence[str], methods: Mapping[str, Sequence[str]]) -> None:
        """`methods` are overrides by name, in the order of what is most worth knowing."""
        self._store, self._methods = SweepFolder(folder), methods
        arguments = ["--repeats", "1", "--out", f"{folder}.csv", "--runs", str(folder), "--common", shlex.join(common)]
        for name, overrides in methods.items():
            arguments += ["--method", f"{name}: {shlex.join(overrides)}"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._log = folder.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.paired_replay", *arguments], stdout=log, stderr=log
            )

    def replayed(self, allowance: Allowance) -> Iterator[Replayed]:
        """Each run as soon as it is there. Raises NotMeasured where the time or the process ends before the last."""
        told: set[str] = set()
        try:
            while len(told) < len(self._methods):
                # asked before looking: what it did last is seen as well
                code = self._process.poll()
                for found in self._found():
                    if found.method not in told:
                        told.add(found.method)
                        yield found
                if code is not None and len(told) < len(self._methods):
                    raise NotMeasured(f"{len(told)} of {len(self._methods)} runs, then: {last_line(self._log)}")
                if not allowance.left_s:
                    raise NotMeasured(f"{len(told)} of {len(self._methods)} runs were done when time was over")
                if len(told) < len(self._methods):
                    time.sleep(LOOK_S)
        finally:
            self.end()

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def _found(self) -> list[Replayed]:
        found = []
        for point in self._store.points().values() if self._store.exists() else ():
            method = point.folder.rpartition("-")[0].partition(" ")[2]
            folder = self._store.folder_of(point)
            if self._store.is_done(point):
                found.append(Replayed(method, folder, None))
            elif self._store.is_failed(point):
                failure = read_json(folder / FAILURE_FILE)
                found.append(Replayed(method, folder, f"{failure.get('type')}: {failure.get('message')}"))
        return found


def run_chain(commands: Sequence[Sequence[str]], log: Path, allowance: Allowance) -> None:
    """Commands of spinbench, one after the other. Raises NotMeasured with the last words of one that fails, or late."""
    with log.open("w") as file:
        try:
            done = subprocess.run(
                [sys.executable, "-c", CHAIN, json.dumps([list(command) for command in commands])],
                stdout=file, stderr=file, timeout=max(1.0, allowance.left_s), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"time was over after: {last_line(log)}") from None
    if done.returncode:
        raise NotMeasured(last_line(log))


def last_line(log: Path) -> str:
    """What a process said last."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"
