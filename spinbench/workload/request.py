"""A request and a trace: what the outside world asks of the server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace. Exactly one of `prompt`, `prompt_token_ids`, `prompt_len_tokens` is given."""

    id: str
    arrival_s: float
    """Seconds from the start of the trace; never negative."""
    max_new_tokens: int
    """Output tokens after which the answer is cut; at least 1."""
    prompt: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_len_tokens: int | None = None
    """Length alone, as in traces that keep the text private; token ids are then drawn from `seed`."""
    ignore_eos: bool = False
    """Keep decoding past the end token, up to `max_new_tokens`."""
    category: str | None = None
    seed: int = 0
    """Seeds the sampling noise of this request, and its token ids when only a length is known."""
    hash_ids: tuple[int, ...] | None = None
    """One for each block of the prompt, from traces that keep the text private: equal first ids, equal beginning.

    Kept for whoever caches prefixes; nothing here does."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival, with where they came from."""

    name: str
    requests: tuple[Request, ...]
    path: Path
    sha256: str
    """Of the file's bytes."""
    dropped_requests: int = 0
    """Rows of the file left out by its reader (failed requests), a window, a filter or a cap; never silently."""
    clipped_requests: int = 0
    """Requests kept whose `max_new_tokens` was lowered to a cap."""
