"""What a selector maximises, and its running estimate."""

from typing import Literal

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.drafting.drafter_groups import Groups
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.evidence import Evidence
from spinbench.control.selector.protocol import SelectorSetting

RewardKind = Literal["draft_goodput", "round_goodput"]
ScaledRewardKind = Literal["acceptance_length", "draft_goodput", "round_goodput"]

MAX_NEW_ROUNDS = 64
"""Rounds that an estimate keeps until somebody asks: few selectors ask in every round."""
TINY = 1e-9
"""Stands for 0 seconds, and for no reward at all, where something is divided by it."""


def tokens_and_time_s(kind: RewardKind, outcome: RoundOutcome) -> tuple[IntArray, FloatArray]:
    """Numerator and denominator of a round's reward per request, in tokens and seconds.

    `draft_goodput`: accepted tokens / drafting time, SPIN's reward (arXiv 2503.15921). It ignores what the target's
    verification costs, so a drafter that takes no time wins however little it gets accepted.
    `round_goodput`: emitted tokens / (drafting + verification time), the speed that the request really had.
    """
    if kind == "draft_goodput":
        return outcome.accepted, outcome.draft_time_s
    return outcome.accepted + 1, outcome.draft_time_s + outcome.verify_time_s


class ScaledReward:
    """Rewards of rounds as bandits for [0, 1] need them: `unscaled` / `scale`.

    `acceptance_length`: accepted tokens over the longest draft, BanditSpec's reward (arXiv 2505.15141), which takes
    all rounds to last equally long. The two goodputs: tokens per second of the request's own round over the largest
    that any round of the run has shown so far, since nobody knows the largest possible one in advance.
    """

    def __init__(self, kind: ScaledRewardKind, setting: SelectorSetting) -> None:
        self._kind: ScaledRewardKind = kind
        self.scale = float(max(setting.max_num_speculative_tokens, 1)) if kind == "acceptance_length" else TINY
        """What a reward of 1 is, in tokens or tokens per second; for a goodput it grows as rounds come in."""

    def unscaled(self, outcome: RoundOutcome) -> FloatArray:
        """Per request; the scale holds for it from now on. Without a drafter it has no meaning."""
        if self._kind == "acceptance_length":
            return outcome.accepted.astype(np.float64)
        tokens, time_s = tokens_and_time_s(self._kind, outcome)
        goodput = np.where(outcome.drafter == NO_DRAFTER, 0.0, tokens / np.maximum(time_s, TINY))
        self.scale = max(self.scale, float(goodput.max(initial=0.0)))
        return goodput


class GoodputEstimate:
    """Goodput of each drafter, for all requests and for each request, as a ratio of decayed sums.

    A ratio of sums, not a mean of ratios: goodput is tokens per second over a stretch of time. A request's own figure
    starts from the figure over all requests, weighted as `prior_rounds` rounds of evidence, so a new request is not
    blind and an old one follows its own text.
    """

    def __init__(
        self, kind: RewardKind, setting: SelectorSetting, decay: float, prior_rounds: float, per_request: bool
    ) -> None:
        self._kind: RewardKind = kind
        self._prior_rounds = prior_rounds
        self._evidence = Evidence(len(setting.drafters), 3, setting.num_requests, decay, per_request)
        """Tokens, seconds, rounds."""
        self._new: list[tuple[RoundOutcome, Groups]] = []
        """Rounds that are not counted yet, and their requests by drafter."""

    def update(self, outcome: RoundOutcome) -> None:
        """Take a round in. Requests without a drafter say nothing about drafters."""
        self._new.append((outcome, outcome.groups()))
        if len(self._new) == MAX_NEW_ROUNDS:
            self._count_new()

    def of(self, rows: IntArray) -> FloatArray:
        """Tokens per second of each drafter for each request, [requests, drafters]; infinite where nobody tried."""
        self._count_new()
        own, (tokens, time_s, num_rounds) = self._evidence.own, self._evidence.shared.T[:, :, None]  # [drafters, 1]
        tried = num_rounds > 0
        if own is not None:
            own = own.take(rows, axis=0)
        if own is None or not np.count_nonzero(own):  # as of newcomers: all have the shared figures
            return np.where(tried, tokens / np.maximum(time_s, TINY), np.inf).T.repeat(len(rows), axis=0)
        # [drafters, requests], since NumPy is slow with arrays that are short in their last dimension
        own_tokens, own_time_s, own_rounds = np.ascontiguousarray(own.T)
        has_own: BoolArray = np.logical_or.reduce(own_rounds > 0)
        weight = self._prior_rounds / np.maximum(num_rounds, TINY)
        scale = np.where(has_own & tried, weight, 1.0)  # a request without evidence has the shared figure
        time_s = own_time_s + scale * time_s
        return np.where(tried, (own_tokens + scale * tokens) / np.maximum(time_s, TINY), np.inf).T

    def _count_new(self) -> None:
        """Several rounds at one go, with what the processor has at hand from the one before: a third of the time."""
        for outcome, groups in self._new:
            tokens, time_s = tokens_and_time_s(self._kind, outcome)
            shown = np.empty((len(tokens), 3))
            shown[:, 0], shown[:, 1], shown[:, 2] = tokens, time_s, 1.0
            self._evidence.add(groups, outcome.rows, shown)
        self._new.clear()
