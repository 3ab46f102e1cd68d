"""The best drafter so far, and now and then another."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_argmax import random_argmax
from spinbench.control.selector.reward import GoodputEstimate, RewardKind


class EpsilonGreedySelector:
    """Per request: with probability epsilon a uniform draw, else the drafter of highest estimated goodput.

    A choice is kept for `rounds_per_choice` rounds of the request, since each switch costs KV catch-up.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        epsilon: Annotated[float, Field(ge=0, le=1)],
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: RewardKind,
        decay: Annotated[float, Field(gt=0, le=1)],
        prior_rounds: Annotated[float, Field(ge=0)],
    ) -> None:
        setting.require_drafters("epsilon_greedy")
        self._num_drafters = len(setting.drafters)
        self._rng = setting.rng
        self._epsilon = epsilon
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)
        self._estimate = GoodputEstimate(reward, setting, decay, prior_rounds, per_request=True)

    def choose(self, context: RoundContext) -> IntArray:
        """Explore or exploit where a choice is due; drafters that nobody tried come first."""
        return self._held.choose(context, self._pick)

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self._pick)

    def _pick(self, rows: IntArray) -> IntArray:
        best = random_argmax(self._estimate.of(rows), self._rng)
        explored = self._rng.integers(self._num_drafters, size=len(rows))
        return np.where(self._rng.random(len(rows)) < self._epsilon, explored, best)

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._estimate.update(outcome)
