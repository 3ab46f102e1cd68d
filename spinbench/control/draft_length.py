"""How many tokens each request drafts in a round (K, `num_speculative_tokens`)."""

from typing import Annotated, Protocol

import numpy as np
from pydantic import Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.request_table import NO_DRAFTER


class DraftLength(Protocol):
    """Chooses K per request and round; the loop cuts it to what the request may still emit."""

    max_num_speculative_tokens: int

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K for each request, int [requests], given the drafter chosen for it (-1 = none); 0 = decode plainly."""
        ...


class FixedDraftLength:
    """The same K for every request and round."""

    @validate_call
    def __init__(self, num_speculative_tokens: Annotated[int, Field(ge=0, le=64)]) -> None:
        self.max_num_speculative_tokens = num_speculative_tokens

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K everywhere, 0 without a drafter."""
        return np.where(drafters == NO_DRAFTER, 0, self.max_num_speculative_tokens)
