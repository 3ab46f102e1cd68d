"""Selectors that weigh every draft before a round, and learn from all rounds; how they choose is their own."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.look_ahead import LookAhead, Outlook
from spinbench.control.selector.protocol import SelectorSetting

Optimism = Annotated[float, Field(ge=0)]
PaybackRounds = Annotated[float, Field(ge=1)]
MemoryRounds = Annotated[float, Field(gt=0)]


class OutlookSelector(ABC):
    """Chooses drafters, and K, by their `Outlook`: chances of every draft, what a round costs, what time is worth."""

    name: ClassVar[str]
    """As the config calls it."""
    needs_confidence = False
    weighs_rounds = True

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        optimism: Optimism,
        payback_rounds: PaybackRounds,
        memory_rounds: MemoryRounds,
        learn_costs: bool,
    ) -> None:
        setting.require_drafters(self.name)
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

    @abstractmethod
    def _best(self, context: RoundContext, outlook: Outlook) -> tuple[IntArray, IntArray]:
        """Source and K of each request's draft, int [requests] each; -1 where none promises to gain anything."""

    def choose(self, context: RoundContext) -> IntArray:
        """The drafters of the best drafts, -1 = none; `lengths` then gives their K."""
        if not self.max_num_speculative_tokens:
            self.begin(context)
            return np.full(len(context), NO_DRAFTER)
        outlook = self._ahead.outlook(context)
        source, self._lengths[context.rows] = self._best(context, outlook)
        return outlook.drafter_of(source)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K of the choice."""
        return self._lengths[context.rows]

    def begin(self, context: RoundContext) -> None:
        """Note by what the outcome of these requests is to be learned."""
        self._ahead.survival.begin(context)

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._ahead.observe(outcome)
