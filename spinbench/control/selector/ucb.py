"""What upper-confidence bandits share: a mean reward for each drafter, and a radius around it."""

from typing import Protocol

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.learners import Learners
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_argmax import random_argmax
from spinbench.control.selector.reward import ScaledReward


class Radius(Protocol):
    """How far a drafter's mean reward may be from the truth."""

    def __call__(self, num_rounds: FloatArray, total_rounds: FloatArray) -> FloatArray:
        """For rewards in [0, 1]; rounds of each drafter, at least 1, and of all, both [requests, drafters]."""
        ...


class UpperConfidence:
    """Optimism: the drafter whose mean reward plus radius is the largest; one not tried yet comes first.

    Each request is a bandit of its own, or all are one. The requests of a batch choose before any of them has seen
    what the others' choices bring.
    """

    def __init__(
        self, setting: SelectorSetting, reward: ScaledReward, radius: Radius, rounds_per_choice: int, per_request: bool
    ) -> None:
        self._rng = setting.rng
        self._reward = reward
        self._radius = radius
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)
        self._learners = Learners(setting.num_requests, per_request)
        self._rewards = np.zeros((self._learners.count, len(setting.drafters)))
        """Sums, before scaling: the scale may grow."""
        self._num_rounds = np.zeros_like(self._rewards)

    def choose(self, context: RoundContext) -> IntArray:
        """The largest index where a choice is due."""
        return self._held.choose(context, self._pick)

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self._pick)

    def _pick(self, rows: IntArray) -> IntArray:
        own = self._learners.of(rows)
        num_rounds = self._num_rounds[own]
        total = np.maximum(num_rounds.sum(1, keepdims=True), 1.0)
        tried = np.maximum(num_rounds, 1.0)
        index = self._rewards[own] / (tried * self._reward.scale) + self._radius(tried, total)
        return random_argmax(np.where(num_rounds > 0, index, np.inf), self._rng)

    def observe(self, outcome: RoundOutcome) -> None:
        """Add the rewards."""
        drafted = outcome.drafter != NO_DRAFTER
        at = self._learners.of(outcome.rows)[drafted], outcome.drafter[drafted]
        np.add.at(self._rewards, at, self._reward.unscaled(outcome)[drafted])
        np.add.at(self._num_rounds, at, 1.0)
