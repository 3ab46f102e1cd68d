"""The simulator's body: looks acceptance up, asks the cost model for time, and runs on SimPy's clock."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from simpy import Environment

from spinbench.control.arrays import IntArray
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    KnownTimes,
    PrefillJob,
    PrefillResult,
    Result,
    ScoreResult,
    TokenSpans,
    VerifyJob,
    VerifyResult,
    job_as_run,
)
from spinbench.control.lane_name import lane_name
from spinbench.control.overlap import Overlap
from spinbench.control.placement import SHARED, Placement
from spinbench.control.request_table import NO_DRAFTER
from spinbench.simulation.lane import Lane
from spinbench.simulation.recorded_times import RecordedTimes
from spinbench.simulation.streams import Streams
from spinbench.workload.acceptance.streams import AcceptanceStreams

WRONG_TOKEN = -2
"""Stands for a guess that is not the text's token; no token has this number, known or not."""


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
        streams: AcceptanceStreams,
        num_prompt_tokens: IntArray,
        drafters: Sequence[DrafterInfo],
        times: JobTimes | RecordedTimes,
        start_s: float = 0.0,
        placement: Placement = SHARED,
        drafts_end_early: bool = True,
        overlap: Overlap | None = None,
        environment: Environment | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """`num_prompt_tokens` [requests] in the order of the streams' rows; the clock begins at `start_s`.

        `drafts_end_early`: a draft that its drafter ends is run no further (`ends_while_drafting`), else to its K. With
        an `overlap` the two lanes of the placement are of one device, and slow each other. With an `environment` that
        it shares, others make time pass: `on_end` tells them of each job that ends.
        """
        self._streams = streams
        self._num_prompt_tokens = num_prompt_tokens
        self._drafters = tuple(drafters)
        self._times = times
        self._placement = placement
        self._drafts_end_early = drafts_end_early
        self._environment = environment or Environment(initial_time=start_s)
        self._on_end = on_end
        self._lanes = [Lane(self._environment) for _ in range(placement.num_devices(len(self._drafters)))]
        self._shared = Streams(self._environment, overlap) if overlap and len(self._lanes) == 2 else None
        """In the lanes' place where they are of one device."""
        self._queue: deque[Job] = deque()
        """Jobs that the host has not handed out yet; empty where there are several lanes."""
        self._num_in_flight = 0
        self._ended: deque[tuple[Job, Result, float, float]] = deque()
        """Jobs whose end the host has not seen, with their start and end."""
        self._host_free_at_s = start_s
        self._accepted_run = np.zeros(len(num_prompt_tokens), np.int64)
        """Of what was drafted for each request in its round, at the most, as far as it was looked up."""
        self._asked = np.full(len(num_prompt_tokens), NO_DRAFTER, np.int64)
        """Drafter of each request's draft whose run is looked up when it is verified, with others; -1 = none."""
        self._looks_up_now = self._looks_up_later = False
        """Whether there ever was a draft that was looked up as it was made, and one that was not."""
        self._run_of: IntArray | None = None
        """[requests, drafters], once several drafters draft for a request."""
        self._run_ahead = np.zeros(len(num_prompt_tokens), np.int64)
        """As `_accepted_run`, of what was drafted ahead last."""

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
        result = self._result(job)
        if isinstance(self._times, RecordedTimes):
            start_s, end_s = self._times.span_s(job, lane_name(job, self._drafters))
            end = lane.repeat(end_s)
        else:
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

    def _result(self, job: Job) -> Result:
        match job:
            case DraftJob():
                return self._draft(job)
            case VerifyJob():
                return self._verify(job)
            case CatchUpJob(drafter, spans, num_scored):
                return self._score(drafter, spans, num_scored)
            case PrefillJob(spans):
                emitted = self._num_output_tokens(spans.rows, spans.stop)
                return PrefillResult(self._streams.token_ids_at(spans.rows, emitted, 1)[:, 0])

    def _score(self, drafter: int, spans: TokenSpans, num_scored: IntArray | None) -> ScoreResult | None:
        if num_scored is None:
            return None
        first = self._num_output_tokens(spans.rows, spans.stop + 1 - num_scored)
        return ScoreResult(self._streams.right_at(spans.rows, first, int(num_scored.max()), drafter))

    def _draft(self, job: DraftJob) -> DraftResult:
        if job.behind is not None:
            return self._go_on(job, job.behind)
        rows, info = job.spans.rows, self._drafters[job.drafter]
        if not (info.copies or job.joins or job.tree or job.stop):
            self._asked[rows], self._looks_up_later = job.drafter, True
            return DraftResult(job.num_speculative_tokens)
        self._asked[rows], self._looks_up_now = NO_DRAFTER, True
        emitted = self._num_output_tokens(rows, job.spans.stop)
        order = (info.max_match_tokens, info.min_match_tokens)
        run = self._streams.accepted_run(rows, emitted, job.drafter, job.by_lookup, *order)
        if job.tree is not None:
            depth = self._streams.accepted_depth(rows, emitted, job.drafter, job.tree.branching)
            run = np.where(job.by_lookup, run, np.minimum(depth, job.num_speculative_tokens))
        num_drafted = job.num_nodes
        if info.copies:
            drafts = ~job.by_lookup | self._streams.lookup_finds(rows, emitted, *order)
            num_drafted = np.where(drafts, num_drafted, 0)
        if job.joins:
            return DraftResult(num_drafted - self._join(job, run))
        self._accepted_run[rows] = run
        if job.stop is None:
            return DraftResult(num_drafted)
        asks = np.flatnonzero(~job.by_lookup)
        if not len(asks):
            return DraftResult(num_drafted)
        num_drafted = num_drafted.copy()
        most = job.num_speculative_tokens[asks]
        codes = self._streams.confidence_at(rows[asks], emitted[asks], int(most.max()), job.drafter)
        kept = np.minimum(job.stop.num_kept(codes), most)
        num_drafted[asks] = kept
        num_steps = np.zeros_like(num_drafted)
        # a look into an n-gram table is done for all K tokens at once
        ends_early = self._drafts_end_early and info.has_kv_cache
        num_steps[asks] = np.minimum(kept + 1, most) if ends_early else most
        return DraftResult(num_drafted, num_steps=num_steps)

    def _go_on(self, job: DraftJob, behind: IntArray) -> DraftResult:
        """A guess that is right iff the draft in front of it is, and would go on right; and a draft behind it."""
        rows, at = job.spans.rows, self._num_output_tokens(job.spans.rows, job.spans.stop)
        right = self._streams.accepted_run(rows, at - behind, job.drafter, job.by_lookup) > behind
        # nothing is kept of what is drafted behind a wrong guess, or behind the end of the text
        self._run_ahead[rows] = self._streams.accepted_run(rows, np.where(right, at + 1, 0), job.drafter, job.by_lookup)
        guesses = np.where(right, self._streams.token_ids_at(rows, at, 1)[:, 0], WRONG_TOKEN)
        return DraftResult(job.num_speculative_tokens - 1, guesses=guesses)

    def _join(self, job: DraftJob, run: IntArray) -> IntArray:
        """Add a drafter's part to merged drafts; the tokens that others before it had drafted too, int [requests].

        What drafters have in common beside the text is not recorded: as if each erred in a way of its own.
        """
        rows, run = job.spans.rows, np.minimum(run, job.num_speculative_tokens)
        if self._run_of is None:
            self._run_of = np.zeros((len(self._accepted_run), len(self._drafters)), np.int64)
        shared: IntArray = np.minimum(run, self._accepted_run[rows])
        self._run_of[rows, job.drafter] = run
        self._accepted_run[rows] = np.maximum(run, self._accepted_run[rows])
        return shared

    def _verify(self, job: VerifyJob) -> VerifyResult:
        rows, drafted = job.spans.rows, job.num_drafted
        emitted = self._num_output_tokens(rows, job.spans.start + 1)
        if job.drafted_ahead is not None:
            ready = rows[job.drafted_ahead]
            self._accepted_run[ready], self._asked[ready] = self._run_ahead[ready], NO_DRAFTER
            self._looks_up_now = True
        accepted = np.minimum(self._runs(rows, emitted), drafted)
        tokens = self._streams.token_ids_at(rows, emitted, int(np.maximum.reduce(accepted)) + 1)
        if self._looks_up_now:
            self._accepted_run[rows] = 0
        if self._run_of is None:
            return VerifyResult(tokens, accepted + 1)
        own = self._run_of[rows]
        self._run_of[rows] = 0
        return VerifyResult(tokens, accepted + 1, own)

    def _runs(self, rows: IntArray, emitted: IntArray) -> IntArray:
        """What would be accepted of the requests' drafts; without meaning where there is none."""
        if not self._looks_up_later:
            return self._accepted_run[rows]
        asked = self._asked[rows]
        later = self._streams.accepted_runs_of_models(rows, emitted, asked)
        return np.where(asked == NO_DRAFTER, self._accepted_run[rows], later) if self._looks_up_now else later

    def _num_output_tokens(self, rows: IntArray, num_tokens: IntArray) -> IntArray:
        return num_tokens - self._num_prompt_tokens[rows]
