"""Workers are started, watched, and replaced when they die, until no point is left."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spinbench.errors import UserError
from spinbench.sweep.folder import Session, SweepFolder

TICK_S = 0.5
"""Between two looks at the workers and the points."""
AGAIN_S = 2.0
"""Before workers are started again where all have ended: whoever is at the last points may soon be through."""
SAID_WORDS = 40
"""Last words of a worker's log that an error quotes."""


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended."""

    lost: bool
    """Killed, or its machine is gone; otherwise it ended by itself."""
    trouble: str | None = None
    """Why it could not work at all: no other will be able to."""


class Worker(Protocol):
    """A worker that was started."""

    def end(self) -> WorkerEnd | None:
        """How it ended; None while it goes on, or waits to be started."""
        ...

    def stop(self) -> None:
        """End it at once."""
        ...


@dataclass
class Job:
    """A session that workers are to do."""

    folder: SweepFolder
    session: Session
    command: Callable[[int, bool], list[str]]
    """The command line of worker number ... of a sweep; whether it waits for points that others are at."""
    environment: Mapping[str, str]
    """What workers need beside their own environment."""
    on_progress: Callable[[int, int], None]
    """Told how many points are done and how many failed, of the session."""
    done: int = 0
    failed: int = 0
    _open: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._points = self.folder.points()
        self._open = set(self.session.keys) & self._points.keys()

    @property
    def num_open(self) -> int:
        """Points neither done nor failed, at the last look."""
        return len(self._open)

    def look(self) -> None:
        """Count anew, and report."""
        for key in list(self._open):
            point = self._points[key]
            is_done = self.folder.is_done(point)
            if is_done or self.folder.is_failed(point):
                self._open.discard(key)
                self.done += is_done
                self.failed += not is_done
        self.on_progress(self.done, self.failed)

    def first_of(self, slot: int, workers: int) -> int:
        """Number of the point that worker `slot` of `workers` begins with, so that they meet late."""
        return slot * len(self.session.keys) // workers


def supervise(job: Job, workers: int, start: Callable[[int], Worker]) -> None:
    """Keep `workers` at the job's points until all are done or failed.

    A lost worker is replaced; so are all when they have ended and points are left, as those do that do not wait for
    points of others. Raises UserError when a worker cannot work at all, or when workers die and nothing gets done.
    """
    job.look()
    running: dict[int, Worker] = {}
    deaths = done_before = starts = 0
    try:
        while job.num_open:
            if not running:
                time.sleep(AGAIN_S if starts else 0)
                starts += 1
                running = {slot: start(slot) for slot in range(min(workers, job.num_open))}
            time.sleep(TICK_S)
            job.look()
            for slot, worker in list(running.items()):
                end = worker.end()
                if end is None:
                    continue
                del running[slot]
                if end.trouble is not None:
                    raise UserError(end.trouble)
                deaths = deaths + end.lost if job.done + job.failed == done_before else int(end.lost)
                done_before = job.done + job.failed
                if deaths > workers * (job.session.max_attempts + 1):
                    raise UserError(
                        f"{job.folder.path}: {deaths} workers died one after another and no point was done; "
                        f"what they said is in {job.folder.logs}"
                    )
                if end.lost and job.num_open:
                    running[slot] = start(slot)
    finally:
        for worker in running.values():
            worker.stop()


def trouble_of(log: Path) -> str:
    """What a worker that ended with an error said last, and where the rest is."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = " ".join(" ".join(line for line in lines if line.strip()).split()[-SAID_WORDS:])
    return f"a worker cannot work: {said or 'it said nothing'} (all of it is in {log})"
