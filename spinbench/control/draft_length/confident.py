"""Drafts that end where their drafter is no longer sure."""

from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.confidence import ConfidenceKind, ConfidenceStop
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting


@runtime_checkable
class StopsOnConfidence(Protocol):
    """A draft-length policy whose K is only the most: a model's draft may end earlier, by the model's own word."""

    stop: ConfidenceStop
    max_model_tokens: int
    """Largest K of a draft that the rule may end."""


class ConfidentDraftLength:
    """At most K tokens of a model or an n-gram table, ended by its confidence; of a copy, by the length of its match.

    A draft is given up before the first token that its drafter is not sure of, and is verified without it. The rule is
    that of DISCO (arXiv 2405.04304) and SVIP (2411.18462) in spirit, without their trained or entropy-based thresholds.
    A copy has no confidence: how much of the context matches says how good it is.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        num_speculative_tokens: Annotated[int, Field(ge=0, le=64)],
        threshold: Annotated[float, Field(ge=1e-4, lt=1)],
        confidence: ConfidenceKind,
        copied_tokens: Annotated[
            list[Annotated[int, Field(ge=0, le=64)]],
            Field(min_length=NgramIndex.MAX_ORDER + 1, max_length=NgramIndex.MAX_ORDER + 1),
        ],
    ) -> None:
        self.stop = ConfidenceStop(threshold, confidence)
        self.max_model_tokens = num_speculative_tokens
        self.max_num_speculative_tokens = max(num_speculative_tokens, *copied_tokens)
        self._copied = np.array(copied_tokens, np.int64)
        self._drafters = setting.drafters

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """The most that each request may draft: by its match where its drafter copies, 0 without a drafter."""
        order = context.lookup_match_order
        copies: BoolArray = np.zeros(len(context), np.bool_)
        for place, drafter in enumerate(self._drafters):
            copies |= (drafters == place) & drafter.drafts_by_lookup(order)
        lengths = np.where(copies, self._copied[order], self.max_model_tokens)
        return np.where(drafters == NO_DRAFTER, 0, lengths)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
