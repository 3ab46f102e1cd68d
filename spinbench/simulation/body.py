"""The simulator's body: asks the cost model how long jobs take, and runs them on SimPy's clock."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from simpy import Environment

from spinbench.control.arrays import IntArray
from spinbench.control.costs.overlap import Overlap
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.job import Job, job_as_run
from spinbench.control.jobs.lane_name import lane_name
from spinbench.control.jobs.result import DidNotFit, Result
from spinbench.control.placement import SHARED, Placement
from spinbench.simulation.answers import Answers
from spinbench.simulation.lane import Lane
from spinbench.simulation.overlapping_lanes import OverlappingLanes
from spinbench.simulation.recorded_times import RecordedTimes


class JobTimes(Protocol):
    """Says how long jobs take, as a cost model does."""

    @property
    def warnings(self) -> Sequence[str]:
        """Where the times are not to be trusted, a line each."""
        ...

    def job_s(self, job: Job) -> float:
        """Seconds that a job occupies its lane."""
        ...

    def gap_s(self, job: Job) -> float:
        """Seconds between the end of this job and the start of the next, in which only the host works."""
        ...


class SimulatedBody:
    """Does jobs in no time of its own, on one lane for each device of the placement.

    There is one host. Behind each job's end it is busy with the result, and only then can it hand out further jobs;
    meanwhile other lanes go on with what is in their queues. Models that share the only device take turns with the
    host, too, as on the runtime: the next job starts once the loop has taken the result in.
    """

    def __init__(
        self,
        answers: Answers,
        drafters: Sequence[DrafterInfo],
        times: JobTimes | RecordedTimes,
        start_s: float = 0.0,
        placement: Placement = SHARED,
        overlap: Overlap | None = None,
        environment: Environment | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """The clock begins at `start_s`.

        With an `overlap` the two lanes of the placement are of one device, and slow each other. With an `environment`
        that it shares, others make time pass: `on_end` tells them of each job that ends.
        """
        self._answers = answers
        self._drafters = tuple(drafters)
        self._times = times
        self._placement = placement
        self._environment = environment or Environment(initial_time=start_s)
        self._on_end = on_end
        self._lanes = [Lane(self._environment) for _ in range(placement.num_devices(len(self._drafters)))]
        self._shared = OverlappingLanes(self._environment, overlap) if overlap and len(self._lanes) == 2 else None
        """In the lanes' place where they are of one device."""
        self._queue: deque[Job] = deque()
        """Jobs that the host has not handed out yet; empty where there are several lanes."""
        self._num_in_flight = 0
        self._ended: deque[tuple[Job, Result, float, float]] = deque()
        """Jobs whose end the host has not seen, with their start and end."""
        self._host_free_at_s = start_s

    def now(self) -> float:
        """Simulated seconds since the start."""
        return max(float(self._environment.now), self._host_free_at_s)

    def submit(self, job: Job) -> None:
        """Queue a job on its lane."""
        if len(self._lanes) == 1:
            self._queue.append(job)
        else:
            self._begin(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Let time pass to the next end of a job, or to the deadline.

        A deadline does not interrupt the job of an only lane, since the host waits with it.
        """
        if self.begin_queued():
            deadline_s = None
        if deadline_s is None and not self._num_in_flight:
            raise RuntimeError("no job in flight and nothing to wait for")
        while not self._ended:
            # a job that ends at the deadline comes first
            if deadline_s is not None and self._environment.peek() > deadline_s:
                if deadline_s > self._environment.now:
                    self._environment.run(until=deadline_s)
                return None
            self._environment.step()
        return self.take_ended()

    @property
    def hears_arrivals(self) -> bool:
        """Whether the host looks up when a request arrives; with an only lane it waits for the job under way."""
        return len(self._lanes) > 1 or not (self._num_in_flight or self._queue)

    def begin_queued(self) -> bool:
        """Hand out the next job to an only lane that is idle; whether there was one."""
        if not self._queue or self._num_in_flight:
            return False
        self._begin(self._queue.popleft())
        return True

    def take_ended(self) -> JobDone:
        """The first of the jobs whose end the host has not seen."""
        job, result, start_s, end_s = self._ended.popleft()
        self._num_in_flight -= 1
        # the host is busy with the result before it can hand out another job
        gap_s = 0.0 if isinstance(self._times, RecordedTimes) else self._times.gap_s(job)
        self._host_free_at_s = max(self._host_free_at_s, end_s) + gap_s
        return JobDone(job, result, lane_name(job, self._drafters), KnownTimes(start_s, end_s))

    def _begin(self, job: Job) -> None:
        device, start_s, end_s = self._placement.device_of(job), None, None
        lane = self._lanes[device]
        # known at once, since texts are; how far a draft goes decides how long it takes
        if isinstance(self._times, RecordedTimes):
            start_s, end_s, fits = self._times.next_span(job, lane_name(job, self._drafters))
            result = self._answers.of(job) if fits else DidNotFit()
            end = lane.repeat(end_s)
        else:
            result = self._answers.of(job)
            duration_s = self._times.job_s(job_as_run(job, result))
            if self._shared is None:
                start_s, end = lane.submit(duration_s, self._host_free_at_s)
            else:
                end = self._shared.submit(device, duration_s, self._host_free_at_s)
        self._num_in_flight += 1
        assert end.callbacks is not None
        end.callbacks.append(
            lambda event: self._ended.append(
                (
                    job,
                    result,
                    event.value if start_s is None else start_s,
                    float(self._environment.now) if end_s is None else end_s,
                )
            )
        )
        if self._on_end is not None:
            end.callbacks.append(lambda _, on_end=self._on_end: on_end())

    def release(self, rows: IntArray) -> None:
        """Nothing is held."""

    def forget(self, rows: IntArray) -> None:
        """What was drafted for the requests."""
        self._answers.forget(rows)
