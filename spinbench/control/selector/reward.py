"""What a selector maximises, and its running estimate."""

from typing import Literal

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting

RewardKind = Literal["draft_goodput", "round_goodput"]


def tokens_and_time_s(kind: RewardKind, outcome: RoundOutcome) -> tuple[IntArray, FloatArray]:
    """Numerator and denominator of a round's reward per request, in tokens and seconds.

    `draft_goodput`: accepted tokens / drafting time, SPIN's reward (arXiv 2503.15921). It ignores what the target's
    verification costs, so a drafter that takes no time wins however little it gets accepted.
    `round_goodput`: emitted tokens / (drafting + verification time), the speed that the request really had.
    """
    if kind == "draft_goodput":
        return outcome.accepted, outcome.draft_time_s
    return outcome.accepted + 1, outcome.draft_time_s + outcome.verify_time_s


class GoodputEstimate:
    """Goodput of each drafter, for all requests and for each request, as a ratio of decayed sums.

    A ratio of sums, not a mean of ratios: goodput is tokens per second over a stretch of time. A request's own figure
    starts from the figure over all requests, weighted as `prior_rounds` rounds of evidence, so a new request is not
    blind and an old one follows its own text.
    """

    def __init__(
        self, kind: RewardKind, setting: SelectorSetting, decay: float, prior_rounds: float, per_request: bool
    ) -> None:
        num_drafters = len(setting.drafters)
        self._kind: RewardKind = kind
        self._decay = decay
        self._prior_rounds = prior_rounds
        self._shared = np.zeros((num_drafters, 3))
        """Tokens, seconds, rounds."""
        self._own = np.zeros((setting.num_requests, num_drafters, 3)) if per_request else None

    def update(self, outcome: RoundOutcome) -> None:
        """Take a round in. Requests without a drafter say nothing about drafters."""
        tokens, time_s = tokens_and_time_s(self._kind, outcome)
        evidence = np.stack((tokens, time_s, np.ones(len(tokens))), 1)  # [requests, 3]
        drafted = outcome.drafter != NO_DRAFTER
        if self._own is not None:
            rows, drafter = outcome.rows[drafted], outcome.drafter[drafted]
            self._own[rows, drafter] = self._own[rows, drafter] * self._decay + evidence[drafted]
        # as if they had come one after another: each is weighted by how many of its drafter come behind it
        order = np.argsort(outcome.drafter, kind="stable")
        order = order[len(order) - int(np.count_nonzero(drafted)) :]  # those without a drafter are first
        by_drafter = outcome.drafter[order]
        counts = np.bincount(by_drafter, minlength=len(self._shared))
        behind = np.cumsum(counts)[by_drafter] - 1 - np.arange(len(order))
        weights = self._decay**behind
        self._shared *= (self._decay**counts)[:, None]
        for column, values in enumerate(evidence[order].T):
            self._shared[:, column] += np.bincount(by_drafter, weights * values, minlength=len(counts))

    def of(self, rows: IntArray) -> FloatArray:
        """Tokens per second of each drafter for each request, [requests, drafters]; infinite where nobody tried."""
        shared, tried = self._shared, self._shared[:, 2] > 0
        if self._own is None:
            tokens, time_s = np.broadcast_to(shared.T[:2, None], (2, len(rows), len(shared)))
        else:
            own = self._own[rows]
            weight = self._prior_rounds / np.maximum(shared[:, 2], 1e-9)
            has_own: BoolArray = np.any(own[:, :, 2] > 0, axis=1, keepdims=True)
            blend = has_own & tried  # a request without evidence has the shared figure
            scale = np.where(blend, weight, 1.0)
            tokens = own[:, :, 0] + scale * shared[:, 0]
            time_s = own[:, :, 1] + scale * shared[:, 1]
        return np.where(tried, tokens / np.maximum(time_s, 1e-9), np.inf)
