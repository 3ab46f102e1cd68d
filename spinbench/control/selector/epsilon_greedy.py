"""The best drafter so far, and now and then another."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting
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
        self._rounds_per_choice = rounds_per_choice
        self._estimate = GoodputEstimate(reward, setting, decay, prior_rounds, per_request=True)
        self._current = np.full(setting.num_requests, -1, np.int64)

    def choose(self, context: RoundContext) -> IntArray:
        """Explore or exploit where a choice is due; drafters that nobody tried come first."""
        due = context.rows[(context.num_rounds % self._rounds_per_choice == 0) | (self._current[context.rows] < 0)]
        if len(due):
            goodput = self._estimate.of(due)
            # ties, and above all drafters that nobody tried, are broken at random
            best = np.where(goodput == goodput.max(1, keepdims=True), self._rng.random(goodput.shape), -1.0).argmax(1)
            explored = self._rng.integers(self._num_drafters, size=len(due))
            self._current[due] = np.where(self._rng.random(len(due)) < self._epsilon, explored, best)
        return self._current[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._estimate.update(outcome)
