"""A body around another, for who wants to see what passes by."""

from typing import Generic, TypeVar

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job

Inner = TypeVar("Inner", bound=Body)


class WrappedBody(Generic[Inner]):
    """Hands everything on; a subclass looks at, or changes, what it is about."""

    def __init__(self, body: Inner) -> None:
        self._body = body

    def now(self) -> float:
        """Seconds on the body's clock."""
        return self._body.now()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._body.submit(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The body's next event."""
        return self._body.next_event(deadline_s)

    def release(self, rows: IntArray) -> None:
        """Free the requests' KV."""
        self._body.release(rows)

    def forget(self, rows: IntArray) -> None:
        """Forget what was drafted for the requests."""
        self._body.forget(rows)
