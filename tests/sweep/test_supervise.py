"""Workers are replaced when they die, and given up when they cannot work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.sweep.launcher import supervise as supervising
from spinbench.sweep.launcher.supervise import Job, WorkerEnd, supervise
from spinbench.sweep.worker import work
from tests.sweep.test_worker import Runs, begun


class ScriptedWorker:
    """Does some points when it is first looked at, and ends as it is told to."""

    def __init__(self, job: Job, runs: Runs, num_points: int, end: WorkerEnd) -> None:
        self.job, self.runs, self.num_points, self.how = job, runs, num_points, end
        self.stopped = False

    def end(self) -> WorkerEnd | None:
        enough = len(self.runs.seeds) + self.num_points
        work(self.job.folder, self.job.session, self.runs, is_over=lambda: len(self.runs.seeds) >= enough)
        return self.how

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "TICK_S", 0)
    monkeypatch.setattr(supervising, "AGAIN_S", 0)


def made_job(path: Path, count: int) -> Job:
    folder, session, _ = begun(path, count)
    return Job(folder, session, lambda first, waits: [], {}, lambda done, failed: None)


def test_lost_workers_are_replaced_until_all_is_done(tmp_path: Path) -> None:
    job, runs, started = made_job(tmp_path, 5), Runs(failing=(2,)), []

    def start(slot: int) -> ScriptedWorker:
        started.append(slot)
        return ScriptedWorker(job, runs, 2, WorkerEnd(lost=True))

    supervise(job, 2, start)
    assert (job.done, job.failed, job.num_open) == (4, 1, 0)
    assert runs.seeds == [0, 1, 2, 3, 4]
    assert len(started) > 2


def test_those_that_left_points_to_others_are_started_again(tmp_path: Path) -> None:
    job, runs = made_job(tmp_path, 3), Runs()
    supervise(job, 1, lambda _: ScriptedWorker(job, runs, 1, WorkerEnd(lost=False)))
    assert job.done == 3


def test_workers_that_die_of_nothing_are_given_up(tmp_path: Path) -> None:
    job = made_job(tmp_path, 3)
    with pytest.raises(UserError, match="7 workers died one after another and no point was done"):
        supervise(job, 2, lambda _: ScriptedWorker(job, Runs(), 0, WorkerEnd(lost=True)))


def test_one_that_cannot_work_stops_all(tmp_path: Path) -> None:
    job = made_job(tmp_path, 3)

    class Idle(ScriptedWorker):
        def end(self) -> WorkerEnd | None:
            return None

    idle = Idle(job, Runs(), 0, WorkerEnd(lost=False))
    workers: Iterator[ScriptedWorker] = iter([idle, ScriptedWorker(job, Runs(), 0, WorkerEnd(False, "no such code"))])
    with pytest.raises(UserError, match="no such code"):
        supervise(job, 2, lambda _: next(workers))
    assert idle.stopped
