"""The best drafter so far."""

from typing import Annotated

from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_argmax import random_argmax
from spinbench.control.selector.reward import GoodputEstimate, RewardKind


class GreedySelector:
    """Per request the drafter of highest estimated goodput; one that nobody tried comes first.

    The simplest policy that learns, which SPIN is compared with (arXiv 2503.15921). It never looks back: a drafter that
    was unlucky when it was tried stays behind.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: RewardKind,
        decay: Annotated[float, Field(gt=0, le=1)],
        prior_rounds: Annotated[float, Field(ge=0)],
    ) -> None:
        setting.require_drafters("greedy")
        self._rng = setting.rng
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)
        self._estimate = GoodputEstimate(reward, setting, decay, prior_rounds, per_request=True)

    def choose(self, context: RoundContext) -> IntArray:
        """The best where a choice is due."""
        return self._held.choose(context, self.best)

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self.best)

    def best(self, rows: IntArray) -> IntArray:
        """The drafter of highest estimated goodput for each request."""
        return random_argmax(self._estimate.of(rows), self._rng)

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._estimate.update(outcome)
