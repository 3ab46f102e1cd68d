"""EXP3Spec: the adversarial bandit of BanditSpec."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.learners import Learners
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_draw import random_draw
from spinbench.control.selector.reward import ScaledReward, ScaledRewardKind


class Exp3SpecSelector:
    """BanditSpec's algorithm 5 (arXiv 2505.15141v2): a drafter is drawn, worse ones ever more seldom.

    Round t draws drafter i with probability p_i proportional to exp(-eta_t sum of its estimated losses) (equation 14),
    eta_t = sqrt(ln K / (t K)) for K drafters; the estimate is loss / p_i for the one that was drawn and 0 for the
    others (equation 13). The paper's loss (L + 1 - Y) / L of acceptance length Y, L the longest draft, is 1 - reward
    with the reward `acceptance_length` of `ScaledReward`. Each request is a bandit of its own there.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        rounds_per_choice: Annotated[int, Field(ge=1)],
        reward: ScaledRewardKind,
        per_request: bool,
    ) -> None:
        setting.require_drafters("exp3spec")
        self._rng = setting.rng
        self._reward = ScaledReward(reward, setting)
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)
        self._learners = Learners(setting.num_requests, per_request)
        self._losses = np.zeros((self._learners.count, len(setting.drafters)))
        self._num_rounds = np.zeros(self._learners.count)
        self._drawn_with = np.ones(setting.num_requests)
        """Per request, the probability of the drafter that it has."""
        self._picked_with = np.ones(setting.num_requests)
        """The same of the drafter that was picked last, which may be for the next round."""

    def choose(self, context: RoundContext) -> IntArray:
        """A draw where one is due."""
        due = self._held.due(context)
        chosen = self._held.choose(context, self._pick)
        self._drawn_with[due] = self._picked_with[due]
        return chosen

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self._pick)

    def _pick(self, rows: IntArray) -> IntArray:
        probability = self.probabilities(rows)
        drawn = random_draw(probability, self._rng)
        self._picked_with[rows] = probability[np.arange(len(rows)), drawn]
        return drawn

    def probabilities(self, rows: IntArray) -> FloatArray:
        """Of each drafter for each request in its next round, [requests, drafters]."""
        own = self._learners.of(rows)
        losses, num_drafters = self._losses[own], self._losses.shape[1]
        rate = np.sqrt(np.log(num_drafters) / ((self._num_rounds[own] + 1) * num_drafters))
        weights = np.exp(-rate[:, None] * (losses - losses.min(1, keepdims=True)))
        return weights / weights.sum(1, keepdims=True)

    def observe(self, outcome: RoundOutcome) -> None:
        """Add the estimated losses."""
        drafted = outcome.drafter != NO_DRAFTER
        own = self._learners.of(outcome.rows)[drafted]
        unscaled = self._reward.unscaled(outcome)[drafted]  # first: the scale may grow with it
        loss = (1 - unscaled / self._reward.scale) / self._drawn_with[outcome.rows[drafted]]
        np.add.at(self._losses, (own, outcome.drafter[drafted]), loss)
        np.add.at(self._num_rounds, own, 1.0)
