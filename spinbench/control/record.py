"""What a run leaves behind: one record per request, per (round, request) and per job. The same for both engines."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "aborted"]
SpanKind = Literal["prefill", "catch_up", "draft", "verify", "host"]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request from arrival to end. Times are seconds on the engine's clock; `None` = never reached."""

    request_id: str
    category: str | None
    seed: int
    arrival_s: float
    """When the request was sent to the server: later than in the trace under a concurrency cap."""
    first_scheduled_s: float | None
    first_token_s: float | None
    finish_s: float | None
    prompt_tokens: int
    output_tokens: int
    max_new_tokens: int
    finish_reason: FinishReason
    """`stop`: end token; `length`: `max_new_tokens`; `aborted`: the run was interrupted first."""
    num_preemptions: int
    num_prefill_emitted_tokens: int
    """Output tokens that came out of a prefill (one per prefill); all others came out of rounds."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One request's part in one round: `emitted = accepted + 1`."""

    round_index: int
    request_id: str
    drafter: str | None
    """`None`: nothing was drafted for this request (plain decoding)."""
    num_speculative_tokens: int
    """K that was asked for."""
    drafted: int
    """Tokens really proposed, at most K: prompt lookup may find fewer."""
    accepted: int
    """Drafted tokens kept. Tokens behind an end token are not kept."""
    emitted: int
    context_tokens: int
    """Prompt and output tokens before this round."""
    lookup_match_order: int
    """Length of the n-gram that prompt lookup matched at the start of this round, 0 = no match."""
    catch_up_tokens: int
    """Tokens that had to be prefilled into the drafter because it had not followed this request."""
    batch_size: int
    """Requests in this round."""
    draft_start_s: float | None
    draft_end_s: float | None
    verify_start_s: float
    verify_end_s: float


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One job on one lane."""

    lane: str
    """`target`, or the drafter's name, or `host`."""
    kind: SpanKind
    start_s: float
    end_s: float
    round_index: int
    """-1 for prefills."""
    request_ids: tuple[str, ...]
    num_tokens: int
    """Query rows that a model ran on, padding rows not counted."""
    useful_cells: int
    padded_cells: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that one run recorded."""

    requests: tuple[RequestRecord, ...]
    rounds: tuple[RoundRecord, ...]
    spans: tuple[SpanRecord, ...]
    drafters: tuple[str, ...]
    start_s: float
    end_s: float
    complete: bool
    """False when the run was interrupted: the unfinished requests are marked `aborted`."""
