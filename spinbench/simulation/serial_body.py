"""A simulated device whose jobs follow each other, so that their times are sums and need no events."""

from collections import deque
from collections.abc import Sequence

from spinbench.control.arrays import IntArray
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.draft_series import DraftSeries, SeriesDone
from spinbench.control.jobs.job import Job, job_as_run
from spinbench.control.jobs.lane_name import lane_name
from spinbench.simulation.answers import Answers
from spinbench.simulation.body import JobTimes


class SerialBody:
    """Does jobs in no time of its own, on one lane; the host takes turns with it.

    What a `SimulatedBody` of a single lane is, without SimPy: whoever waits for an event waits for the end of the next
    job in the queue, so nothing is ever left under way.
    """

    def __init__(
        self, answers: Answers, drafters: Sequence[DrafterInfo], times: JobTimes, start_s: float = 0.0
    ) -> None:
        """The clock begins at `start_s`."""
        self._answers = answers
        self._drafters = tuple(drafters)
        self._times = times
        self._queue: deque[Job] = deque()
        self._now_s = self._host_free_at_s = start_s
        self._free_at_s = 0.0

    def now(self) -> float:
        """Simulated seconds since the start."""
        return max(self._now_s, self._host_free_at_s)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The end of the next job; the deadline only where there is none, since the host waits with its device."""
        if self._queue:
            job = self._queue.popleft()
            # known at once, since texts are; how far a draft goes decides how long it takes
            result = self._answers.of(job)
            times = self._take_turn(self._times.job_s(job_as_run(job, result)), self._times.gap_s(job))
            return JobDone(job, result, lane_name(job, self._drafters), times)
        if deadline_s is None:
            raise RuntimeError("no job in flight and nothing to wait for")
        if deadline_s > self._now_s:
            self._now_s += deadline_s - self._now_s
        return None

    def release(self, rows: IntArray) -> None:
        """Nothing is held."""

    def forget(self, rows: IntArray) -> None:
        """What was drafted for the requests."""
        self._answers.forget(rows)

    def _take_turn(self, duration_s: float, gap_s: float) -> KnownTimes:
        """A job on the device, and behind it the host, which is busy with the result."""
        now_s, host_free_at_s = self._now_s, self._host_free_at_s
        start_s = max(now_s, self._free_at_s, host_free_at_s)
        self._free_at_s = start_s + float(duration_s)
        # time passes by differences, as in SimPy: so a run's times are the same to the last digit on either body
        self._now_s = end_s = now_s + (self._free_at_s - now_s)
        self._host_free_at_s = max(host_free_at_s, end_s) + float(gap_s)
        return KnownTimes(start_s, end_s)


class AtOnceBody(SerialBody):
    """Does the drafts of a round at one go as well, where a cost model says what they take."""

    def __init__(self, answers: Answers, drafters: Sequence[DrafterInfo], costs: CostModel, start_s: float) -> None:
        """The clock begins at `start_s`."""
        super().__init__(answers, drafters, costs, start_s)
        self._costs = costs

    def draft_at_once(self, series: DraftSeries) -> SeriesDone:
        """See `DraftsAtOnce`."""
        if self._queue:
            raise RuntimeError("drafts were to be made at once while other jobs wait for their turn")
        self._answers.ask(series.spans.rows, series.groups.drafter)
        times = [self._take_turn(duration_s, gap_s) for duration_s, gap_s in self._costs.series_s(series)]
        return SeriesDone(series, [self._drafters[number].name for number, _ in series.groups.parts], times)
