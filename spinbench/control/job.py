"""The contract between decisions and an engine's body: jobs go out, events come back, and the body tells the time."""

from dataclasses import dataclass
from typing import Protocol

from spinbench.control.layout import LayoutPlan
from spinbench.control.request_state import RequestState


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Tokens `start` to `stop` of one request, to be run through a model that already holds the KV of all before."""

    state: RequestState
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        """Length of the span."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class PrefillJob:
    """Run whole contexts through the target and emit the first new token of each. Result: `PrefillResult`."""

    spans: tuple[TokenSpan, ...]


@dataclass(frozen=True, slots=True)
class CatchUpJob:
    """Fill in a drafter's missing KV for requests that it has not followed. Result: `None`."""

    drafter: int
    spans: tuple[TokenSpan, ...]


@dataclass(frozen=True, slots=True)
class DraftItem:
    """Draft `num_speculative_tokens` tokens behind the request's newest token."""

    span: TokenSpan
    """Known tokens that the drafter's model has not seen yet, at least the newest one; empty for a lookup."""
    num_speculative_tokens: int
    by_lookup: bool
    """Copy from the request's own tokens instead of running a model."""


@dataclass(frozen=True, slots=True)
class DraftJob:
    """One drafter drafts for its group of requests. The body keeps the drafted tokens. Result: `DraftResult`."""

    drafter: int
    items: tuple[DraftItem, ...]
    measure_confidence: bool


@dataclass(frozen=True, slots=True)
class VerifyItem:
    """The newest token and `num_drafted` drafted tokens of one request."""

    state: RequestState
    drafter: int | None
    num_drafted: int


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """The target scores newest and drafted tokens of a micro-batch. Result: `VerifyResult`."""

    items: tuple[VerifyItem, ...]
    layout: LayoutPlan


Job = PrefillJob | CatchUpJob | DraftJob | VerifyJob


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """One token per span."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DraftResult:
    """Per item, tokens really drafted (0 to K) and, if asked for, the mean top-1 probability."""

    num_drafted: tuple[int, ...]
    confidence: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Per item, the accepted drafted tokens followed by the bonus token: `accepted + 1` token ids."""

    emitted: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job ended; it occupied `lane` from `start_s` to `end_s`."""

    job: Job
    result: PrefillResult | DraftResult | VerifyResult | None
    lane: str
    start_s: float
    end_s: float


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
