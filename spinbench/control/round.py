"""One draft + verify cycle of one micro-batch, from the choice of drafters to the committed tokens."""

import itertools
from collections.abc import Sequence

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.confidence import ConfidenceStop
from spinbench.control.context import RoundContext
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import CatchUpJob, DraftJob, DraftResult, Job, JobDone, TokenSpans, VerifyJob
from spinbench.control.layout import VerificationLayout
from spinbench.control.request_table import NO_DRAFTER, RequestTable

MAX_UNSEEN_TOKENS = 16
"""Known tokens that a drafter takes in with its first draft step. After a round of its own it lacks two at the most
(its last draft was never fed back), after one of others a few more: cheaper together than as a job of their own. With
more than this it did not follow the request, and catches up first."""


class Round:
    """The state machine of a round: draft jobs first, the verify job once all drafts are there.

    Its arrays have one entry per request and are filled in as the round goes on; the recorder keeps them.
    """

    def __init__(
        self,
        index: int,
        context: RoundContext,
        drafter: IntArray,
        num_speculative_tokens: IntArray,
        drafters: Sequence[DrafterInfo],
        layout: VerificationLayout,
        measure_confidence: bool,
        stop: ConfidenceStop | None = None,
    ) -> None:
        count = len(context)
        self.index = index
        self.rows = context.rows
        self.num_speculative_tokens = num_speculative_tokens
        self.drafter = np.where(num_speculative_tokens > 0, drafter, NO_DRAFTER)
        self.context_tokens = context.context_tokens
        self.lookup_match_order = context.lookup_match_order
        self.by_lookup = np.zeros(count, np.bool_)
        self.catch_up_tokens = np.zeros(count, np.int64)
        self.drafted = np.zeros(count, np.int64)
        self.draft_steps = np.zeros(count, np.int64)
        """Tokens that a model was run for, of which it may not have been sure enough to draft the last."""
        self.confidence: FloatArray = np.full(count, np.nan)
        self.draft_start_s: FloatArray = np.full(count, np.nan)
        self.draft_end_s: FloatArray = np.full(count, np.nan)
        self.group_size = np.zeros(count, np.int64)
        self._drafters = drafters
        self._layout = layout
        self._measure_confidence = measure_confidence
        self._stop = stop
        self._pending: dict[int, IntArray] = {}
        """Per drafter that still drafts, the places of its requests in the arrays."""

    def first_jobs(self, table: RequestTable) -> list[Job]:
        """Catch-up and draft jobs of each drafter's group, or the verify job if nobody drafts."""
        jobs: list[Job] = []
        order = np.argsort(self.drafter, kind="stable")
        bounds = np.searchsorted(self.drafter[order], np.arange(len(self._drafters) + 1)).tolist()
        for drafter, (start, stop) in enumerate(itertools.pairwise(bounds)):
            if stop > start:
                jobs.extend(self._jobs_of_group(drafter, order[start:stop], table))
        return jobs or [self._verify_job()]

    def draft_done(self, done: JobDone, job: DraftJob, result: DraftResult) -> Job | None:
        """Take a draft in; returns the verify job when it was the last one missing."""
        places = self._pending.pop(job.drafter)
        self.drafted[places] = result.num_drafted
        self.draft_steps[places] = job.num_steps(result)
        if result.confidence is not None:
            self.confidence[places] = result.confidence
        self.draft_start_s[places] = done.start_s
        self.draft_end_s[places] = done.end_s
        self.group_size[places] = len(places)
        return None if self._pending else self._verify_job()

    @property
    def draft_time_s(self) -> FloatArray:
        """Duration of each request's draft job, 0 without one."""
        return np.where(self.drafter == NO_DRAFTER, 0.0, self.draft_end_s - self.draft_start_s)

    def _jobs_of_group(self, drafter: int, places: IntArray, table: RequestTable) -> list[Job]:
        jobs: list[Job] = []
        rows, newest = self.rows[places], self.context_tokens[places]
        by_lookup = self._drafters[drafter].drafts_by_lookup(self.lookup_match_order[places])
        self.by_lookup[places] = by_lookup
        # where nothing has a KV cache, nothing has to be taken in
        stateless = by_lookup if self._drafters[drafter].has_kv_cache else np.True_
        start = np.where(stateless, newest, table.planned_kv_tokens(rows, drafter))
        behind = newest - start > MAX_UNSEEN_TOKENS
        if behind.any():
            spans = TokenSpans(rows[behind], start[behind], newest[behind] - 1)
            self.catch_up_tokens[places[behind]] = spans.num_tokens
            jobs.append(CatchUpJob(drafter, spans))
            start = np.where(behind, newest - 1, start)
        lengths = self.num_speculative_tokens[places]
        spans = TokenSpans(rows, start, newest)
        jobs.append(DraftJob(drafter, spans, lengths, by_lookup, self._measure_confidence, self._stop))
        self._pending[drafter] = places
        return jobs

    def _verify_job(self) -> VerifyJob:
        stop = self.context_tokens + self.drafted
        spans = TokenSpans(self.rows, self.context_tokens - 1, stop)
        return VerifyJob(spans, self._layout.plan(spans.num_tokens, stop))
