"""A body of a device with too little memory for some jobs."""

from collections.abc import Callable

from spinbench.control.arrays import IntArray
from spinbench.control.job import Body, DidNotFit, Job, JobDone


class ScarceBody:
    """Another body's jobs, done to their end; nothing comes of those that `fits` says no to."""

    def __init__(self, body: Body, fits: Callable[[Job], bool]) -> None:
        self._body = body
        self._fits = fits
        self.num_unfit = 0

    def now(self) -> float:
        return self._body.now()

    def submit(self, job: Job) -> None:
        self._body.submit(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        done = self._body.next_event(deadline_s)
        if done is None or self._fits(done.job):
            return done
        self.num_unfit += 1
        return done._replace(result=DidNotFit())

    def release(self, rows: IntArray) -> None:
        self._body.release(rows)

    def forget(self, rows: IntArray) -> None:
        self._body.forget(rows)
