"""What a selector sees before a round, and what it is told after one."""

from dataclasses import dataclass

from spinbench.control.request_state import LastRound


@dataclass(frozen=True, slots=True)
class RoundContext:
    """One request before a round. The same in both engines."""

    request_id: str
    category: str | None
    num_rounds: int
    """Rounds that this request has been through."""
    context_tokens: int
    output_tokens: int
    remaining_tokens: int
    lookup_match_order: int
    """Longest n-gram (0 to 3 tokens) at the end of the context that occurred before in it."""
    last_round: LastRound | None
    missing_kv_tokens: tuple[int, ...]
    """Per drafter, tokens to be prefilled before it could draft for this request; 0 for prompt lookup."""
    batch_size: int
    """Requests in this round."""
    num_waiting: int
    """Requests queued behind the running batch: the load."""


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """One request after a round."""

    request_id: str
    drafter: int | None
    drafted: int
    accepted: int
    draft_time_s: float
    """Duration of the draft job that this request was part of, catch-up not counted; 0 without a drafter."""
    verify_time_s: float
    """Duration of the verify job."""
    group_size: int
    """Requests in that draft job."""
    finished: bool
    """The request is over; its id does not come back."""
