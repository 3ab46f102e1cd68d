"""The simulator's body: looks acceptance up, asks the cost model for time, and runs on SimPy's clock."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from simpy import Environment

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    PrefillJob,
    PrefillResult,
    Result,
    ScoreResult,
    TokenSpans,
    VerifyJob,
    VerifyResult,
)
from spinbench.control.lane_name import TARGET_LANE
from spinbench.simulation.lane import Lane
from spinbench.workload.acceptance.streams import AcceptanceStreams


class JobTimes(Protocol):
    """Says how long jobs take: a cost model, or the durations of a run that really happened."""

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
    """Does jobs in no time of its own. All models share one device and take turns, as on the runtime."""

    def __init__(
        self,
        streams: AcceptanceStreams,
        num_prompt_tokens: IntArray,
        drafters: Sequence[DrafterInfo],
        times: JobTimes,
        start_s: float = 0.0,
    ) -> None:
        """`num_prompt_tokens` [requests] in the order of the streams' rows; the clock begins at `start_s`."""
        self._streams = streams
        self._num_prompt_tokens = num_prompt_tokens
        self._drafters = tuple(drafters)
        self._times = times
        self._environment = Environment(initial_time=start_s)
        self._lane = Lane(self._environment)
        self._queue: deque[Job] = deque()
        self._host_free_at_s = start_s
        self._accepted_run = np.zeros(len(num_prompt_tokens), np.int64)

    def now(self) -> float:
        """Simulated seconds since the start."""
        return max(float(self._environment.now), self._host_free_at_s)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Let the next job run to its end, or time pass until the deadline if there is none.

        The host waits for each job, as the runtime's does: the next one starts once the loop has taken the result in.
        """
        if not self._queue:
            if deadline_s is None:
                raise RuntimeError("no job in flight and nothing to wait for")
            if deadline_s > self._environment.now:
                self._environment.run(until=deadline_s)
            return None
        job = self._queue.popleft()
        start_s, ended = self._lane.submit(self._times.job_s(job), self._host_free_at_s)
        while not ended.processed:
            self._environment.step()
        end_s = float(self._environment.now)
        # the host is busy with the result before it can start another job
        self._host_free_at_s = end_s + self._times.gap_s(job)
        lane, result = self._result(job)
        return JobDone(job, result, lane, start_s, end_s)

    def release(self, rows: IntArray) -> None:
        """Nothing is held."""

    def _result(self, job: Job) -> tuple[str, Result]:
        match job:
            case PrefillJob(spans):
                emitted = self._num_output_tokens(spans.rows, spans.stop)
                return TARGET_LANE, PrefillResult(self._streams.token_ids_at(spans.rows, emitted, 1)[:, 0])
            case CatchUpJob(drafter, spans, num_scored):
                return self._drafters[drafter].name, self._score(drafter, spans, num_scored)
            case DraftJob(drafter):
                return self._drafters[drafter].name, self._draft(job)
            case VerifyJob():
                return TARGET_LANE, self._verify(job)

    def _score(self, drafter: int, spans: TokenSpans, num_scored: IntArray | None) -> ScoreResult | None:
        if num_scored is None:
            return None
        first = self._num_output_tokens(spans.rows, spans.stop + 1 - num_scored)
        return ScoreResult(self._streams.right_at(spans.rows, first, int(num_scored.max()), drafter))

    def _draft(self, job: DraftJob) -> DraftResult:
        rows, info = job.spans.rows, self._drafters[job.drafter]
        emitted = self._num_output_tokens(rows, job.spans.stop)
        order = (info.max_match_tokens, info.min_match_tokens)
        self._accepted_run[rows] = self._streams.accepted_run(rows, emitted, job.drafter, job.by_lookup, *order)
        drafts: BoolArray = ~job.by_lookup
        if not drafts.all():
            drafts = drafts | self._streams.lookup_finds(rows, emitted, *order)
        return DraftResult(np.where(drafts, job.num_speculative_tokens, 0))

    def _verify(self, job: VerifyJob) -> VerifyResult:
        rows, drafted = job.spans.rows, job.num_drafted
        emitted = self._num_output_tokens(rows, job.spans.start + 1)
        accepted = np.minimum(self._accepted_run[rows], drafted)
        tokens = self._streams.token_ids_at(rows, emitted, int(accepted.max()) + 1)
        return VerifyResult(tokens, accepted + 1)

    def _num_output_tokens(self, rows: IntArray, num_tokens: IntArray) -> IntArray:
        return num_tokens - self._num_prompt_tokens[rows]
