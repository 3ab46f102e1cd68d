"""What a run leaves behind: per request, per (round, request) and per job. The same for both engines.

Rounds and jobs are kept as columns: a simulated day has millions of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.span_record import SpanColumns

FinishReason = Literal["stop", "length", "aborted", "out_of_memory"]
COMPLETED: tuple[FinishReason, ...] = ("stop", "length")
"""Of requests whose answer is whole."""


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
    """`stop`: end token; `length`: `max_new_tokens`; `aborted`: the run was interrupted first; `out_of_memory`: it was
    given up with the tokens that it had, since a job of it alone did not fit on its device."""
    num_preemptions: int
    num_prefill_emitted_tokens: int
    """Output tokens that came out of a prefill (one per prefill), or of a peer's `generate`; all others: of rounds."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that one run recorded."""

    requests: tuple[RequestRecord, ...]
    rounds: RoundColumns
    spans: SpanColumns
    drafters: tuple[str, ...]
    start_s: float
    end_s: float
    complete: bool
    """False when the run was interrupted: the unfinished requests are marked `aborted`."""
    num_replicas: int = 1
    """Servers behind a router. Rounds have numbers of their own on each; lanes have not."""
    replica_of: Mapping[str, int] = field(default_factory=dict)
    """Number of the replica that served a request, by its id; 0 where it is not named."""
