"""A tree of drafted tokens in place of a chain."""

from typing import Annotated

import numpy as np
from pydantic import Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.request_table import NO_DRAFTER
from spinbench.errors import UserError

MAX_NODES = 256


class TreeDraftLength:
    """The same tree for every request and round; its K is the tree's depth, which the loop may cut.

    Copies and n-gram tables name one token at a time, and draft a chain of that depth. Raises UserError for a tree of
    too many nodes.
    """

    @validate_call
    def __init__(
        self,
        branching: Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=1, max_length=64)],
    ) -> None:
        nodes = sum(np.cumprod(branching, dtype=object).tolist())
        if nodes > MAX_NODES:
            raise UserError(f"drafting.branching makes a tree of {nodes} tokens; it must have at most {MAX_NODES}")
        self.tree = TreeShape(tuple(branching))
        self.max_num_speculative_tokens = self.tree.depth

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """The tree's depth everywhere, 0 without a drafter."""
        return np.where(drafters == NO_DRAFTER, 0, self.tree.depth)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
