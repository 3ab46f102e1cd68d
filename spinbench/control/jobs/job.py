"""The jobs that decisions give to an engine's body.

A job names its requests by *row*: their place in the run's `RequestTable`. What belongs to a batch is held in arrays
with one entry per request, so that no engine spends Python time on a single token.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.result import DraftResult, Result
from spinbench.control.layout.plan import LayoutPlan


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Per request the tokens `start` to `stop`, to be run through a model that holds the KV of all before them."""

    rows: IntArray
    start: IntArray
    stop: IntArray

    def __len__(self) -> int:
        """Requests."""
        return len(self.rows)

    @property
    def num_tokens(self) -> IntArray:
        """Length of each span, int [requests]."""
        return self.stop - self.start

    def only(self, places: IntArray | BoolArray) -> "TokenSpans":
        """Some of the requests."""
        return TokenSpans(self.rows[places], self.start[places], self.stop[places])


class PrefillJob(NamedTuple):
    """Run whole contexts through the target and emit the first new token of each. Result: `PrefillResult`."""

    spans: TokenSpans


class CatchUpJob(NamedTuple):
    """Fill in a drafter's missing KV for requests that it has not followed. Result: `None`, or `ScoreResult`."""

    drafter: int
    spans: TokenSpans
    num_scored: IntArray | None = None
    """Ask as well what the drafter would have said behind the last so many tokens of each span, at least one; what
    really stands there is known. None = do not ask."""


class DraftJob(NamedTuple):
    """One drafter drafts for its group of requests. The body keeps the drafted tokens. Result: `DraftResult`."""

    drafter: int
    spans: TokenSpans
    """Known tokens that the drafter's model has not seen yet, at least the newest one; empty for a lookup."""
    num_speculative_tokens: IntArray
    """Tokens of each draft at the most; of a tree, those on its longest path."""
    by_lookup: BoolArray
    """Copy from the request's own tokens instead of running a model."""
    measure_confidence: bool
    tree: TreeShape | None = None
    """Shape of what a model drafts, cut at each request's depth; None = chains, which copies always are."""
    joins: bool = False
    """Put the drafts together with those that other drafters made for these requests since their last verification."""
    stop: ConfidenceStop | None = None
    """Where a model's chain ends before K; None = at K. Copies are not concerned."""
    behind: IntArray | None = None
    """Lengths of drafts that are being verified, to be gone on from: `spans` are their last tokens, and what is drafted
    first is a guess at the bonus token. The body keeps the tokens behind the guess apart until a `VerifyJob` asks for
    them. None = go on from the text."""

    @property
    def is_ahead(self) -> bool:
        """Whether it drafts upon what the text may never hold."""
        return self.behind is not None

    @property
    def num_nodes(self) -> IntArray:
        """Tokens to be drafted for each request, on all paths, int [requests]."""
        lengths = self.num_speculative_tokens
        return lengths if self.tree is None else np.where(self.by_lookup, lengths, self.tree.num_nodes(lengths))

    def only(self, places: IntArray | BoolArray) -> "DraftJob":
        """The job for some of the requests."""
        return self._replace(
            spans=self.spans.only(places),
            num_speculative_tokens=self.num_speculative_tokens[places],
            by_lookup=self.by_lookup[places],
            behind=None if self.behind is None else self.behind[places],
        )

    def num_steps(self, result: DraftResult) -> IntArray:
        """Tokens that the model was run for, kept or not, int [requests]; 0 for a copy."""
        if result.num_steps is not None:
            return result.num_steps
        if not np.count_nonzero(self.by_lookup):
            return self.num_speculative_tokens
        return np.where(self.by_lookup, 0, self.num_speculative_tokens)

    def as_run(self, result: DraftResult) -> "DraftJob":
        """The job that asks for no more than was run: what it cost."""
        if result.num_steps is None:
            return self
        lengths = np.where(self.by_lookup, self.num_speculative_tokens, result.num_steps)
        return self._replace(num_speculative_tokens=lengths, stop=None)


class VerifyJob(NamedTuple):
    """The target scores newest and drafted tokens of a micro-batch. Result: `VerifyResult`."""

    spans: TokenSpans
    """Per request its newest token and the drafted ones behind it; of a tree, in the order of their numbers."""
    layout: LayoutPlan
    drafted_ahead: BoolArray | None = None
    """Requests whose draft is the newest that was made ahead, without the guess in front; None = nobody's is. What was
    made ahead for the others of the job is not asked for any more."""

    @property
    def num_drafted(self) -> IntArray:
        """Drafted tokens of each request."""
        return self.spans.num_tokens - 1


Job = PrefillJob | CatchUpJob | DraftJob | VerifyJob


def job_as_run(job: Job, result: Result) -> Job:
    """The job as far as it was done: a draft may have ended early."""
    return job.as_run(result) if isinstance(result, DraftResult) and isinstance(job, DraftJob) else job
