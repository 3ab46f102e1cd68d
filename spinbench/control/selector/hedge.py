"""HedgeSpec: no exploring, since every drafter can be asked what it would have said."""

from typing import Literal

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.full_information import FullFeedback
from spinbench.control.selector.evidence import Evidence
from spinbench.control.selector.learners import Learners
from spinbench.control.selector.normal_hedge import normal_hedge_weights
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_draw import random_draw
from spinbench.control.selector.reward import TINY, tokens_and_time_s

HedgeLoss = Literal["acceptance_length", "round_goodput"]


class HedgeSelector:
    """Draws a drafter each round by NormalHedge's weights, which learn from all drafters (arXiv 2510.20064).

    The loss of drafter i at an output position is the paper's, 1 - acceptance length / (K + 1), where the acceptance
    length is what i would have had accepted there of K tokens, and the bonus; at temperature 0, and with noise that
    target and drafters share, the paper's estimator of it (its theorem 3) is this number itself. That loss takes rounds
    to last equally long. `round_goodput`, ours, divides the acceptance length by the mean duration of i's rounds so far
    (of the shortest ones where i had none) and scales by the best possible value, K + 1 tokens in the shortest rounds.

    Feedback comes K tokens late, and the losses of the positions that come together are taken under one set of weights.
    Each request learns for itself, as in the paper, or all together. The paper's "hybrid losses" and "skipped updates"
    are not in its public text in a form that could be followed, and are left out.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, loss: HedgeLoss, per_request: bool) -> None:
        setting.require_drafters("hedge")
        self._rng = setting.rng
        self._loss: HedgeLoss = loss
        self._learners = Learners(setting.num_requests, per_request)
        self._regret = np.zeros((self._learners.count, len(setting.drafters)))
        self._longest = setting.max_num_speculative_tokens + 1
        self._times = Evidence(len(setting.drafters), 2, setting.num_requests, decay=1.0, per_request=False)
        """Seconds and rounds."""

    def choose(self, context: RoundContext) -> IntArray:
        """A draw for each request."""
        return random_draw(self.probabilities(context.rows), self._rng)

    def probabilities(self, rows: IntArray) -> FloatArray:
        """Of each drafter for each request, [requests, drafters]."""
        return normal_hedge_weights(self._regret[self._learners.of(rows)])

    def observe(self, outcome: RoundOutcome) -> None:
        """How long rounds last."""
        _, time_s = tokens_and_time_s("round_goodput", outcome)
        self._times.add(outcome.groups(), outcome.rows, np.stack((time_s, np.ones(len(time_s))), 1))

    def observe_all(self, feedback: FullFeedback) -> None:
        """Add the regret towards each drafter: the loss that was to be expected less its own."""
        clear = np.arange(feedback.accepted.shape[1]) < feedback.num_positions[:, None]
        losses = self.losses(feedback.accepted) * clear[..., None]
        own = self._learners.of(feedback.rows)
        loss = losses.sum(1)  # [requests, drafters]
        expected = (normal_hedge_weights(self._regret[own]) * loss).sum(1, keepdims=True)
        np.add.at(self._regret, own, expected - loss)

    def losses(self, accepted: IntArray) -> FloatArray:
        """In [0, 1], [..., drafters]."""
        gain = (accepted + 1) / self._longest
        if self._loss == "round_goodput":
            seconds, num_rounds = self._times.shared.T
            mean_s = np.where(num_rounds > 0, seconds / np.maximum(num_rounds, 1), np.inf)
            shortest_s = mean_s.min()
            if np.isfinite(shortest_s):
                gain = gain * shortest_s / np.maximum(np.where(num_rounds > 0, mean_s, shortest_s), TINY)
        return 1 - gain
