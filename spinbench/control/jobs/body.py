"""What drives jobs on either engine: it does them and tells the time, and that is all that a decision sees of it."""

from typing import NamedTuple, Protocol

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import Job
from spinbench.control.jobs.result import Result


class JobTimes(Protocol):
    """When a job began and ended, in seconds on the engine's clock. A device may know only when it is asked."""

    @property
    def start_s(self) -> float:
        """It began."""
        ...

    @property
    def end_s(self) -> float:
        """It ended; waits until it has."""
        ...


class KnownTimes(NamedTuple):
    """Times that need no asking."""

    start_s: float
    end_s: float


class JobDone(NamedTuple):
    """A job's result is there; it occupied `lane` for these `times`, which need not be over yet.

    Of any job the result may be `DidNotFit` instead.
    """

    job: Job
    result: Result
    lane: str
    times: JobTimes

    @property
    def start_s(self) -> float:
        """When it began."""
        return self.times.start_s

    @property
    def end_s(self) -> float:
        """When it ended: asked for only by who needs it, since a body may have to wait for it."""
        return self.times.end_s


class Body(Protocol):
    """Does jobs and tells the time. A decision cannot tell which body it drives."""

    def now(self) -> float:
        """Seconds on the engine's clock."""
        ...

    def submit(self, job: Job) -> None:
        """Queue a job on its lane; jobs of one lane run in the order they came."""
        ...

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The next job to end; `None` once the clock reads `deadline_s`. With no job in flight it waits."""
        ...

    def release(self, rows: IntArray) -> None:
        """These requests ended or were preempted: their KV is not needed any more."""
        ...

    def forget(self, rows: IntArray) -> None:
        """What was drafted for these requests will not be verified, since not all of it fitted; they keep their KV."""
        ...
