"""K left to the selector."""

from typing import Annotated

from pydantic import Field, validate_call

from spinbench.control.draft_length.protocol import DraftLength
from spinbench.errors import UserError


class BySelectorDraftLength:
    """Stands in the config for the selector, which chooses K as well and then is the run's draft-length policy."""

    @validate_call
    def __init__(self, max_num_speculative_tokens: Annotated[int, Field(ge=0, le=64)]) -> None:
        self.max_num_speculative_tokens = max_num_speculative_tokens

    def of(self, selector: object) -> DraftLength:
        """The selector as a policy. Raises UserError if it does not choose K."""
        if not isinstance(selector, DraftLength):
            raise UserError(
                "drafting=by_selector leaves K to the selector, and this one chooses only drafters; set selector=joint "
                "or selector=contextual, or another drafting"
            )
        return selector
