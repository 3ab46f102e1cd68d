"""A body of a device with too little memory for some jobs."""

from collections.abc import Callable

from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job
from spinbench.control.jobs.result import DidNotFit
from spinbench.control.jobs.wrapped_body import WrappedBody


class ScarceBody(WrappedBody[Body]):
    """Another body's jobs, done to their end; nothing comes of those that `fits` says no to."""

    def __init__(self, body: Body, fits: Callable[[Job], bool]) -> None:
        super().__init__(body)
        self._fits = fits
        self.num_unfit = 0

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        done = super().next_event(deadline_s)
        if done is None or self._fits(done.job):
            return done
        self.num_unfit += 1
        return done._replace(result=DidNotFit())
