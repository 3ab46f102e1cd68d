"""One draft + verify cycle of one micro-batch, from the choice of drafters to the committed tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftItem,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    TokenSpan,
    VerifyItem,
    VerifyJob,
)
from spinbench.control.layout import VerificationLayout
from spinbench.control.request_state import RequestState

MAX_UNSEEN_TOKENS = 16
"""Known tokens that a drafter takes in with its first draft step. After a round of its own it lacks two at the most
(its last draft was never fed back), after one of others a few more: cheaper together than as a job of their own. With
more than this it did not follow the request, and catches up first."""


@dataclass(slots=True)
class RoundPart:
    """One request's part in a round, filled in as the round goes on."""

    state: RequestState
    drafter: int | None
    num_speculative_tokens: int
    context_tokens: int
    lookup_match_order: int
    by_lookup: bool = False
    catch_up_tokens: int = 0
    drafted: int = 0
    confidence: float | None = None
    draft_start_s: float | None = None
    draft_end_s: float | None = None
    group_size: int = 0


class Round:
    """The state machine of a round: draft jobs first, the verify job once all drafts are there."""

    def __init__(
        self,
        index: int,
        parts: Sequence[RoundPart],
        drafters: Sequence[DrafterInfo],
        layout: VerificationLayout,
        measure_confidence: bool,
    ) -> None:
        self.index = index
        self.parts = list(parts)
        self._drafters = drafters
        self._layout = layout
        self._measure_confidence = measure_confidence
        self._pending_drafts = 0

    def first_jobs(self) -> list[Job]:
        """Catch-up and draft jobs of each drafter's group, or the verify job if nobody drafts."""
        jobs: list[Job] = []
        for drafter in range(len(self._drafters)):
            group = [part for part in self.parts if part.drafter == drafter and part.num_speculative_tokens > 0]
            if group:
                jobs.extend(self._jobs_of_group(drafter, group))
        return jobs or [self._verify_job()]

    def draft_done(self, done: JobDone, job: DraftJob, result: DraftResult) -> Job | None:
        """Take a draft in; returns the verify job when it was the last one missing."""
        by_state = {id(part.state): part for part in self.parts}
        for index, item in enumerate(job.items):
            part = by_state[id(item.span.state)]
            part.drafted = result.num_drafted[index]
            part.confidence = result.confidence[index] if result.confidence else None
            part.draft_start_s, part.draft_end_s = done.start_s, done.end_s
            part.group_size = len(job.items)
        self._pending_drafts -= 1
        return self._verify_job() if self._pending_drafts == 0 else None

    def _jobs_of_group(self, drafter: int, group: list[RoundPart]) -> list[Job]:
        jobs: list[Job] = []
        info = self._drafters[drafter]
        behind: list[TokenSpan] = []
        items: list[DraftItem] = []
        for part in group:
            state = part.state
            newest = state.num_tokens
            part.by_lookup = info.drafts_by_lookup(part.lookup_match_order)
            if part.by_lookup:
                items.append(DraftItem(TokenSpan(state, newest, newest), part.num_speculative_tokens, True))
                continue
            start = state.drafter_kv_tokens[drafter]
            if newest - start > MAX_UNSEEN_TOKENS:
                behind.append(TokenSpan(state, start, newest - 1))
                part.catch_up_tokens = newest - 1 - start
                start = newest - 1
            items.append(DraftItem(TokenSpan(state, start, newest), part.num_speculative_tokens, False))
        if behind:
            jobs.append(CatchUpJob(drafter, tuple(behind)))
        jobs.append(DraftJob(drafter, tuple(items), self._measure_confidence))
        self._pending_drafts += 1
        return jobs

    def _verify_job(self) -> VerifyJob:
        items = tuple(VerifyItem(part.state, part.drafter, part.drafted) for part in self.parts)
        plan = self._layout.plan(
            [item.num_drafted + 1 for item in items], [item.state.num_tokens + item.num_drafted for item in items]
        )
        return VerifyJob(items, plan)
