"""What the jobs of a run took, beside what a cost model expects of the very same jobs."""

from collections.abc import Callable

import numpy as np

from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job, job_as_run
from spinbench.control.jobs.result import DidNotFit
from spinbench.control.jobs.wrapped_body import WrappedBody
from spinbench.control.records.span_chunk import kind_of
from spinbench.metrics.validation import JobsCompared


class ExpectingBody(WrappedBody[Body]):
    """A body that asks about every job that is done how long it should have taken, and changes nothing."""

    def __init__(self, body: Body, expected_s: Callable[[Job], float]) -> None:
        """`expected_s` gives a job's seconds, as `CostModel.job_s` does."""
        super().__init__(body)
        self._ask = expected_s
        self._kind: list[str] = []
        self._lane: list[str] = []
        self._real_s: list[float] = []
        self._expected_s: list[float] = []

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The body's next event."""
        done = super().next_event(deadline_s)
        if done is not None and not isinstance(done.result, DidNotFit):
            self._kind.append(kind_of(done.job))
            self._lane.append(done.lane)
            self._real_s.append(done.end_s - done.start_s)
            self._expected_s.append(self._ask(job_as_run(done.job, done.result)))
        return done

    def compared(self) -> JobsCompared:
        """All jobs so far."""
        return JobsCompared(tuple(self._kind), tuple(self._lane), np.array(self._real_s), np.array(self._expected_s))
