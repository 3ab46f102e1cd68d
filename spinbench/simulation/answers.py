"""What models would answer, read off from what is known of every text: the results of jobs, without their times."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob
from spinbench.control.jobs.result import DraftResult, PrefillResult, Result, ScoreResult, VerifyResult
from spinbench.control.request_table import NO_DRAFTER
from spinbench.workload.acceptance.streams import AcceptanceStreams

WRONG_TOKEN = -2
"""Stands for a guess that is not the text's token; no token has this number, known or not."""


class Answers:
    """Remembers who drafted for each request until what was drafted is verified."""

    def __init__(
        self,
        streams: AcceptanceStreams,
        num_prompt_tokens: IntArray,
        drafters: Sequence[DrafterInfo],
        drafts_end_early: bool = True,
    ) -> None:
        """`num_prompt_tokens` [requests] in the order of the streams' rows.

        `drafts_end_early`: a draft that its drafter ends is run no further (`ends_while_drafting`), else to its K.
        """
        self._streams = streams
        self._num_prompt_tokens = num_prompt_tokens
        self._newest_of_prompt = num_prompt_tokens - 1
        """Position of each prompt's last token."""
        self._drafters = tuple(drafters)
        self._drafts_end_early = drafts_end_early
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

    def of(self, job: Job) -> Result:
        """The result of a job; a `VerifyJob` is asked about once its drafts were."""
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

    def ask(self, rows: IntArray, drafters: IntArray | int) -> None:
        """Models draft chains for these requests, one for all or each its own: as long as they are asked to be."""
        self._asked[rows], self._looks_up_later = drafters, True

    def forget(self, rows: IntArray) -> None:
        """What was drafted for these requests is not verified."""
        self._accepted_run[rows] = 0
        self._asked[rows] = NO_DRAFTER
        if self._run_of is not None:
            self._run_of[rows] = 0

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
            self.ask(rows, job.drafter)
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
        rows = job.spans.rows
        num_output_tokens = job.spans.start - self._newest_of_prompt[rows]
        if job.drafted_ahead is not None:
            ready = rows[job.drafted_ahead]
            self._accepted_run[ready], self._asked[ready] = self._run_ahead[ready], NO_DRAFTER
            self._looks_up_now = True
        num_emitted = np.minimum(self._most_emitted(rows, num_output_tokens), job.spans.num_tokens)
        tokens = self._streams.next_token_ids(rows, num_output_tokens, num_emitted)
        if self._looks_up_now:
            self._accepted_run[rows] = 0
        if self._run_of is None:
            return VerifyResult(tokens, num_emitted)
        own = self._run_of[rows]
        self._run_of[rows] = 0
        return VerifyResult(tokens, num_emitted, own)

    def _most_emitted(self, rows: IntArray, num_output_tokens: IntArray) -> npt.NDArray[np.integer]:
        """Tokens that a round of these requests would bring with long drafts, at least one."""
        if not self._looks_up_later:
            return self._accepted_run[rows] + 1
        asked = self._asked[rows]
        later = self._streams.emitted_behind_models(rows, num_output_tokens, asked)
        return np.where(asked == NO_DRAFTER, self._accepted_run[rows] + 1, later) if self._looks_up_now else later

    def _num_output_tokens(self, rows: IntArray, num_tokens: IntArray) -> IntArray:
        return num_tokens - self._num_prompt_tokens[rows]
