"""How many tokens each request drafts in a round (K, `num_speculative_tokens`)."""

from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import Field, validate_call

from spinbench.control.context import RoundContext


class DraftLength(Protocol):
    """Chooses K per request and round; the loop cuts it to what the request may still emit."""

    max_num_speculative_tokens: int

    def lengths(self, contexts: Sequence[RoundContext], drafters: Sequence[int | None]) -> list[int]:
        """K for each request, given the drafter chosen for it; 0 = decode plainly."""
        ...


class FixedDraftLength:
    """The same K for every request and round."""

    @validate_call
    def __init__(self, num_speculative_tokens: Annotated[int, Field(ge=0, le=64)]) -> None:
        self.max_num_speculative_tokens = num_speculative_tokens

    def lengths(self, contexts: Sequence[RoundContext], drafters: Sequence[int | None]) -> list[int]:
        """K everywhere, 0 without a drafter."""
        return [0 if drafter is None else self.max_num_speculative_tokens for drafter in drafters]
