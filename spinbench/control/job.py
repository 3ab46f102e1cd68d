"""The contract between decisions and an engine's body: jobs go out, events come back, and the body tells the time.

A job names its requests by *row*: their place in the run's `RequestTable`. What belongs to a batch is held in arrays
with one entry per request, so that no engine spends Python time on a single token.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.confidence import ConfidenceStop
from spinbench.control.layout import LayoutPlan
from spinbench.control.token_tree import TreeShape


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

    def num_steps(self, result: "DraftResult") -> IntArray:
        """Tokens that the model was run for, kept or not, int [requests]; 0 for a copy."""
        if result.num_steps is not None:
            return result.num_steps
        if not np.count_nonzero(self.by_lookup):
            return self.num_speculative_tokens
        return np.where(self.by_lookup, 0, self.num_speculative_tokens)

    def as_run(self, result: "DraftResult") -> "DraftJob":
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


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """One token per request, int [requests]."""

    token_ids: IntArray


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Whether a drafter would have said the tokens that stand in the text."""

    right: BoolArray
    """[requests, width], one for each scored token in order; behind a request's `num_scored` it has no meaning."""


@dataclass(frozen=True, slots=True)
class DraftResult:
    """Per request, tokens really drafted (0 to K) and, if asked for, the mean top-1 probability."""

    num_drafted: IntArray
    """Tokens of all paths. Where several drafters draft for a request, those that none before had drafted."""
    confidence: FloatArray | None = None
    """Over the drafted tokens and the one that ended the draft, if one did."""
    num_steps: IntArray | None = None
    """Tokens that the model was run for, drafted ones and others, 0 for a copy. None = for K."""
    guesses: IntArray | None = None
    """Of drafts made ahead, the token that each has in the place of the bonus token."""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Per request, the accepted drafted tokens followed by the bonus token."""

    token_ids: IntArray
    """[requests, width], what lies behind a request's `num_emitted` has no meaning."""
    num_emitted: IntArray
    """accepted + 1"""
    accepted_of: IntArray | None = None
    """[requests, drafters]: how many of the accepted tokens each drafter had drafted, which are the first ones; None
    where no request had more than one drafter."""


@dataclass(frozen=True, slots=True)
class DidNotFit:
    """The device had too little memory for the job. Nothing came of it; what it wrote into KV pools nobody counts."""


Result = PrefillResult | ScoreResult | DraftResult | VerifyResult | DidNotFit | None


def job_as_run(job: Job, result: Result) -> Job:
    """The job as far as it was done: a draft may have ended early."""
    return job.as_run(result) if isinstance(result, DraftResult) and isinstance(job, DraftJob) else job


class JobTimes(Protocol):
    """When a job began and ended, in seconds on the engine's clock. A device may know only when it is asked."""

    @property
    def start_s(self) -> float:
        """It began."""
        ...

    @property
    def end_s(self) -> float:
        """It ended; waits until it has."""
        ...


class KnownTimes(NamedTuple):
    """Times that need no asking."""

    start_s: float
    end_s: float


class JobDone(NamedTuple):
    """A job's result is there; it occupied `lane` for these `times`, which need not be over yet.

    Of any job the result may be `DidNotFit` instead.
    """

    job: Job
    result: Result
    lane: str
    times: JobTimes

    @property
    def start_s(self) -> float:
        """When it began."""
        return self.times.start_s

    @property
    def end_s(self) -> float:
        """When it ended: asked for only by who needs it, since a body may have to wait for it."""
        return self.times.end_s


class Body(Protocol):
    """Does jobs and tells the time. A decision cannot tell which body it drives."""

    def now(self) -> float:
        """Seconds on the engine's clock."""
        ...

    def submit(self, job: Job) -> None:
        """Queue a job on its lane; jobs of one lane run in the order they came."""
        ...

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The next job to end; `None` once the clock reads `deadline_s`. With no job in flight it waits."""
        ...

    def release(self, rows: IntArray) -> None:
        """These requests ended or were preempted: their KV is not needed any more."""
        ...

    def forget(self, rows: IntArray) -> None:
        """What was drafted for these requests will not be verified, since not all of it fitted; they keep their KV."""
        ...
