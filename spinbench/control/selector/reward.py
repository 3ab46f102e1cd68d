"""What a selector maximises, and its running estimate."""

from typing import Literal

import numpy as np

from spinbench.control.context import RoundOutcome

RewardKind = Literal["draft_goodput", "round_goodput"]


def tokens_and_time_s(kind: RewardKind, outcome: RoundOutcome) -> tuple[int, float]:
    """Numerator and denominator of a round's reward, in tokens and seconds.

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
        self, kind: RewardKind, num_drafters: int, decay: float, prior_rounds: float, per_request: bool
    ) -> None:
        self._kind: RewardKind = kind
        self._decay = decay
        self._prior_rounds = prior_rounds
        self._per_request = per_request
        self._num_drafters = num_drafters
        self._shared = np.zeros((3, num_drafters))
        self._own: dict[str, np.ndarray] = {}

    def update(self, outcome: RoundOutcome) -> None:
        """Take a round in. Rounds without a drafter say nothing about drafters."""
        if outcome.drafter is not None:
            tokens, time_s = tokens_and_time_s(self._kind, outcome)
            sums = [self._shared]
            if self._per_request:
                sums.append(self._own.setdefault(outcome.request_id, np.zeros((3, self._num_drafters))))
            for table in sums:
                table[:, outcome.drafter] *= self._decay
                table[:, outcome.drafter] += (tokens, time_s, 1.0)
        if outcome.finished:
            self._own.pop(outcome.request_id, None)

    def shared(self) -> np.ndarray:
        """Tokens per second of each drafter over all requests, float [drafters]; infinite where never tried."""
        tokens, time_s, rounds = self._shared
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rounds > 0, tokens / np.maximum(time_s, 1e-9), np.inf)

    def of(self, request_id: str) -> np.ndarray:
        """Tokens per second of each drafter for this request, float [drafters]; infinite where nobody tried."""
        own = self._own.get(request_id)
        if own is None:
            return self.shared()
        tokens, time_s, rounds = self._shared
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(rounds > 0, self._prior_rounds / np.maximum(rounds, 1e-9), 0.0)
        tokens = own[0] + weight * tokens
        time_s = own[1] + weight * time_s
        return np.where(rounds > 0, tokens / np.maximum(time_s, 1e-9), np.inf)
