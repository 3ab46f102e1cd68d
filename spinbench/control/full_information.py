"""What every drafter would have had accepted at every token that was emitted, not only the one that was asked.

Verified tokens are run through every drafter, whose own choice at each position is compared with what was emitted
(HedgeSpec, arXiv 2510.20064). That takes jobs, whose time is paid like any other; prompt lookup costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, TokenSpans
from spinbench.control.jobs.result import DidNotFit, ScoreResult
from spinbench.control.request_table import RequestTable
from spinbench.control.text import Text


@dataclass(frozen=True, slots=True)
class FullFeedback:
    """For positions of the answers that have just become clear, what a draft of K tokens would have come to there."""

    rows: IntArray
    num_positions: IntArray
    """New positions of each request, int [requests], one behind another; 0 for some."""
    accepted: IntArray
    """[requests, width, drafters]: tokens accepted, 0 to K; behind a request's `num_positions` it has no meaning."""


@runtime_checkable
class LearnsFromAll(Protocol):
    """A selector that learns from all drafters: the loop has each of them run over what was verified."""

    def observe_all(self, feedback: FullFeedback) -> None:
        """Learn from positions that have become clear; called before `choose`, for the requests of the next round."""
        ...


class FullInformation:
    """Keeps which tokens each drafter would have said, as far as it was asked.

    Output position p is the p-th token of an answer, from 0; the one at 0 comes from the prefill and is never drafted.
    What a drafter drafted itself is not asked again: the accepted tokens were right, and the first one that was not
    accepted was wrong. So a drafter that drafts well costs a run over one token a round, the others one over all new
    tokens.
    """

    def __init__(
        self, table: RequestTable, text: Text, drafters: Sequence[DrafterInfo], num_speculative_tokens: int
    ) -> None:
        self._table = table
        self._text = text
        self._drafters = tuple(drafters)
        self._width = max(num_speculative_tokens, 1)
        ends = np.cumsum(table.max_new_tokens)
        self._first = ends - table.max_new_tokens
        self._right = np.zeros((int(ends[-1]) if len(ends) else 0, len(self._drafters)), np.bool_)
        """[positions of all requests, drafters]: whether the drafter's model would have said this token."""
        self._known = np.ones((len(table), len(self._drafters)), np.int64)
        """[requests, drafters]: output positions below are in `_right`."""
        self.asked_rows: IntArray = np.empty(0, np.int64)
        """The requests that drafters were asked about last."""
        self._unfit: CatchUpJob | None = None
        """The first of the jobs for it that did not fit on its device."""
        self._given = np.ones(len(table), np.int64)
        """[requests]: output positions below were given to the selector."""

    def note_drafts(
        self, rows: IntArray, drafter: IntArray, num_output_tokens: IntArray, drafted: IntArray, accepted: IntArray
    ) -> None:
        """Drafts of models that were verified; `num_output_tokens` had been emitted before them."""
        if not len(rows):
            return
        offsets = np.arange(int(accepted.max()))
        right = offsets < accepted[:, None]
        places = (self._first[rows] + num_output_tokens)[:, None] + offsets
        self._right[places[right], np.repeat(drafter, accepted)] = True
        self._known[rows, drafter] = num_output_tokens + accepted + (accepted < drafted)

    def jobs(self, rows: IntArray) -> list[CatchUpJob]:
        """What the drafters must be asked about the newest tokens of these requests, one job for each drafter."""
        table, jobs = self._table, []
        self.asked_rows, self._unfit = rows, None
        output_tokens, stop = table.num_output_tokens(rows), table.num_tokens[rows] - 1
        for drafter, info in enumerate(self._drafters):
            if info.has_kv_cache:
                num_scored = output_tokens - self._known[rows, drafter]
                asked = num_scored > 0
                if asked.any():
                    # a drafter that ended its draft itself may hold all KV already: what is asked is run once more
                    start = np.minimum(table.drafter_kv_tokens[rows, drafter], stop - num_scored)
                    spans = TokenSpans(rows[asked], start[asked], stop[asked])
                    jobs.append(CatchUpJob(drafter, spans, num_scored[asked]))
        return jobs

    def scored(self, job: CatchUpJob, result: ScoreResult | DidNotFit) -> CatchUpJob | None:
        """Take an answer in; returns the first job since the drafters were asked that did not fit: ask again then."""
        if isinstance(result, DidNotFit):
            self._unfit = self._unfit or job
            return self._unfit
        rows, num_scored = job.spans.rows, job.num_scored
        if num_scored is None:
            raise ValueError("a catch-up job without questions has no answers")
        self._table.hold_kv(rows, job.drafter, job.spans.stop)
        known = self._known[rows, job.drafter]
        offsets = np.arange(result.right.shape[1])
        own = offsets < num_scored[:, None]
        places = (self._first[rows] + known)[:, None] + offsets
        self._right[places[own], job.drafter] = result.right[own]
        self._known[rows, job.drafter] = known + num_scored
        return self._unfit

    def take(self, rows: IntArray) -> FullFeedback | None:
        """The positions that have become clear since the last time, None if there are none.

        At one of them K tokens are known from it on, so feedback is K tokens late. What a lookup would have copied is
        judged token by token, each by the match that its own position has.
        """
        first, width = self._given[rows], self._width
        num_positions = np.maximum(self._table.num_output_tokens(rows) - width + 1 - first, 0)
        most = int(num_positions.max(initial=0))
        if not most:
            return None
        self._given[rows] = first + num_positions
        right = self._right_at(rows, first, most + width - 1)
        windows = np.lib.stride_tricks.sliding_window_view(right, width, axis=1)  # [requests, positions, drafters, K]
        return FullFeedback(rows, num_positions, np.logical_and.accumulate(windows, axis=-1).sum(-1))

    def _right_at(self, rows: IntArray, first: IntArray, width: int) -> BoolArray:
        """Whether each drafter would have been right at `width` output positions from `first`, [n, width, drafters]."""
        places = (self._first[rows] + first)[:, None] + np.arange(width)
        right = self._right[np.minimum(places, len(self._right) - 1)]
        if any(info.asks_ngrams for info in self._drafters):
            said = self._text.ngram_hindsight(rows, first, width)[1]
            for drafter, info in enumerate(self._drafters):
                if info.asks_ngrams:
                    right[..., drafter] = said
        if any(info.copies for info in self._drafters):
            order, copied = self._text.lookup_hindsight(rows, first, width)
            for drafter, info in enumerate(self._drafters):
                if info.copies:
                    by_lookup = info.drafts_by_lookup(order.reshape(-1)).reshape(order.shape)
                    longest = np.minimum(order, info.max_match_tokens)
                    finds = longest >= info.min_match_tokens
                    looked_up = finds & np.take_along_axis(copied, np.maximum(longest - 1, 0)[..., None], -1)[..., 0]
                    right[..., drafter] = np.where(by_lookup, looked_up, right[..., drafter])
        return right
