"""When the KV that a drafter lacks is computed: as a request comes to it, or while others still work on the request."""

from typing import Literal

import numpy as np

from spinbench.control.arrays import BoolArray
from spinbench.control.context import RoundContext
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, TokenSpans
from spinbench.control.jobs.result import DidNotFit, Result
from spinbench.control.request_table import NO_DRAFTER, RequestTable
from spinbench.control.rounds.round import Round
from spinbench.control.selector.protocol import Announces, Selector

SwitchingKind = Literal["on_demand", "ahead"]


class CatchUpAhead:
    """SPIN's switch without a stall (arXiv 2503.15921): the next drafter catches up while the present one drafts.

    As a round begins, each request's next drafter is asked of the selector; where that says nothing it is taken to be
    the model that drafted for the request last, which lookups leave behind. If it would lack too many tokens to take
    them in with a draft by then, it catches up with those that are known now: behind the drafts on its lane, beside
    the present drafter and the target. Only what this round adds is left for the switch.

    Drafted tokens never go in, so nothing that is prepared can be wrong; a guess that does not come true costs time of
    a lane. A request may finish or be preempted meanwhile: then the job computes KV that nobody counts. Nor is any
    counted behind the gap that a job leaves which does not fit on its device.
    """

    def __init__(self, table: RequestTable, drafters: tuple[DrafterInfo, ...], selector: Selector) -> None:
        self._table = table
        self._has_kv_cache = np.array([drafter.has_kv_cache for drafter in drafters], np.bool_)
        self._announces = selector if isinstance(selector, Announces) else None
        self._in_flight: dict[int, tuple[CatchUpJob, int, np.ndarray]] = {}
        """By the job's identity: the job, its round, and each request's `num_kv_drops` when it was submitted."""

        self._has_gaps = False
        """Whether a job did not fit, so that others may have counted on KV that is not there."""

    @property
    def num_in_flight(self) -> int:
        """Jobs that were submitted and are not done."""
        return len(self._in_flight)

    def jobs(self, round_: Round, context: RoundContext) -> list[CatchUpJob]:
        """What to submit behind the first jobs of a round, whose `context` it is; see `Announces.next_drafters`."""
        table, rows = self._table, round_.rows
        following = table.last_model_drafter[rows]
        if self._announces is not None:
            announced = self._announces.next_drafters(context)
            following = np.where(announced == NO_DRAFTER, following, announced)
        drafts_itself = (following == round_.drafter) & ~round_.by_lookup
        # at the least a token is emitted: with one left to emit there is no next round
        wanted = (following != NO_DRAFTER) & ~drafts_itself & (context.remaining_tokens > 1)
        wanted &= self._has_kv_cache[following]
        held = table.planned_kv_tokens(rows, following)
        newest = round_.context_tokens
        wanted &= newest + round_.asked_depth + 1 - held > MAX_UNSEEN_TOKENS
        return [
            self._job(drafter, TokenSpans(rows[own], held[own], newest[own]), round_.index)
            for drafter in np.unique(following[wanted]).tolist()
            for own in [np.flatnonzero(wanted & (following == drafter))]
        ]

    def done(self, job: CatchUpJob, result: Result) -> int | None:
        """Count the KV that a job has computed; returns the round that it was for, None for a job of others."""
        submitted = self._in_flight.pop(id(job), None)
        if submitted is None:
            return None
        _, round_index, num_kv_drops = submitted
        rows, table = job.spans.rows, self._table
        kept = table.num_kv_drops[rows] == num_kv_drops
        if isinstance(result, DidNotFit):
            self._has_gaps = True
            table.queue_kv(rows[kept], job.drafter, 0)
            return round_index
        if self._has_gaps:
            kept &= ~self._behind_gap(job)
        table.hold_kv(rows[kept], job.drafter, job.spans.stop[kept])
        return round_index

    def lacks_kv(self, job: Job) -> bool:
        """Whether a job that is done counted on KV that is not there, so that what came of it is worth nothing."""
        return self._has_gaps and isinstance(job, CatchUpJob | DraftJob) and bool(self._behind_gap(job).any())

    def _behind_gap(self, job: CatchUpJob | DraftJob) -> BoolArray:
        """Requests of which a job took in tokens behind those that its drafter holds, bool [requests]."""
        spans = job.spans
        return (spans.num_tokens > 0) & (spans.start > self._table.drafter_kv_tokens[spans.rows, job.drafter])

    def _job(self, drafter: int, spans: TokenSpans, round_index: int) -> CatchUpJob:
        job = CatchUpJob(drafter, spans)
        self._table.queue_kv(spans.rows, drafter, spans.stop)
        self._in_flight[id(job)] = job, round_index, self._table.num_kv_drops[spans.rows]
        return job
