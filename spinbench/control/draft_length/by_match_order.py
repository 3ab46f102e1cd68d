"""K by how much of what was written last occurred before."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting


class MatchOrderDraftLength:
    """K by how much of the context's end occurred before: long copies are often right, guesses of a model seldom.

    "Look before you choose" for the draft length: prompt lookup's match costs nothing to know, nor does how sure an
    n-gram table is. Where a drafter would ask its table and that is less sure than `min_ngram_confidence`, K is 0.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        num_speculative_tokens: Annotated[
            list[Annotated[int, Field(ge=0, le=64)]],
            Field(min_length=NgramIndex.MAX_ORDER + 1, max_length=NgramIndex.MAX_ORDER + 1),
        ],
        min_ngram_confidence: Annotated[float, Field(ge=0, le=1)],
    ) -> None:
        self.max_num_speculative_tokens = max(num_speculative_tokens)
        self._drafters = setting.drafters
        self._min_ngram_confidence = min_ngram_confidence
        self._length_of = np.array(num_speculative_tokens, np.int64)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """The entry of each request's match order, 0 without a drafter and where an n-gram table is unsure."""
        lengths = np.where(drafters == NO_DRAFTER, 0, self._length_of[context.lookup_match_order])
        unsure = context.ngram_confidence < self._min_ngram_confidence
        for place, drafter in enumerate(self._drafters):
            if drafter.asks_ngrams:
                asked = ~drafter.drafts_by_lookup(context.lookup_match_order)
                lengths[(drafters == place) & asked & unsure] = 0
        return lengths

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
