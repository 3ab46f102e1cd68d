"""Each request for itself, every round anew, by what can be known before the round."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_source import NO_SOURCE
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.look_ahead import LookAhead
from spinbench.control.selector.own_gain import own_gain
from spinbench.control.selector.protocol import SelectorSetting


class ContextualSelector:
    """A contextual bandit: per request the drafter (and K, under drafting=by_selector) of highest expected gain.

    The context is the order of the prompt-lookup match, how well copies have done lately, the newest token, the
    category and what the request's own drafts came to (`SurvivalEstimate`). A copy is scored at every round, whoever
    drafted: full information, for nothing. The gain is tokens expected, less what time is worth: that of a round in
    which all requests do likewise, shared equally; what others really choose is `joint`'s concern. Under a draft-length
    policy its largest K is taken for the K to come.
    """

    needs_confidence = False
    weighs_rounds = True

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        optimism: Annotated[float, Field(ge=0)],
        payback_rounds: Annotated[float, Field(ge=1)],
        memory_rounds: Annotated[float, Field(gt=0)],
        learn_costs: bool,
    ) -> None:
        setting.require_drafters("contextual")
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._chooses_length = setting.chooses_draft_length
        self._ahead = LookAhead(
            setting,
            optimism=optimism,
            payback_rounds=payback_rounds,
            memory_rounds=memory_rounds,
            learn_costs=learn_costs,
        )
        self._lengths = np.zeros(setting.num_requests, np.int64)

    def choose(self, context: RoundContext) -> IntArray:
        """The best drafter of each request, -1 where none promises to gain anything."""
        if not self.max_num_speculative_tokens:
            self.begin(context)
            return np.full(len(context), NO_DRAFTER)
        outlook = self._ahead.outlook(context)
        source, length = self._best(own_gain(outlook))
        self._lengths[context.rows] = length
        chosen = outlook.drafter[np.arange(len(context)), np.maximum(source, 0)]
        return np.where(source == NO_SOURCE, NO_DRAFTER, chosen)

    def begin(self, context: RoundContext) -> None:
        """Note by what the outcome of these requests is to be learned."""
        self._ahead.survival.begin(context)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K of the choice."""
        return self._lengths[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._ahead.observe(outcome)

    def _best(self, gain: FloatArray) -> tuple[IntArray, IntArray]:
        """Source and K of each request's best draft, int [requests] each; -1 and 0 where none gains anything."""
        count, _, most = gain.shape
        first = 0 if self._chooses_length else most - 1
        flat = gain[:, :, first:].reshape(count, -1)
        best = flat.argmax(1)
        source, length = np.divmod(best, most - first)
        drafts = flat[np.arange(count), best] > 0
        return np.where(drafts, source, NO_SOURCE), np.where(drafts, first + length + 1, 0)
