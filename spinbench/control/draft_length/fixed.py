"""One K for all."""

from typing import Annotated

from pydantic import Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER


class FixedDraftLength:
    """The same K for every request and round."""

    @validate_call
    def __init__(self, num_speculative_tokens: Annotated[int, Field(ge=0, le=64)]) -> None:
        self.max_num_speculative_tokens = num_speculative_tokens

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K everywhere, 0 without a drafter."""
        return (drafters != NO_DRAFTER) * self.max_num_speculative_tokens

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
