"""Thompson sampling: a drafter is chosen as often as it is likely to be the best."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.evidence import Evidence
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_argmax import random_argmax
from spinbench.control.selector.reward import RewardKind


class ThompsonSelector:
    """The drafter of largest goodput under a draw from what is believed of each (Thompson 1933).

    *Acceptance.* Draft position k of drafter d is accepted in request r, given that those before it were, with
    probability theta[r, d, k]. The belief is Beta(s m + a, s (1 - m) + b): a and b are the request's own accepted and
    rejected tokens there, m the share of accepted ones over all requests (with one of each added), and s = 2 +
    min(`prior_tokens`, tokens seen there in all requests). So a new request is believed to be like the others, an old
    one is believed what it shows, and `prior_tokens` says how alike requests are: partial pooling, with the strength of
    the hyperprior fixed, not inferred. A draft that comes back empty (a lookup without a match) rejects position 0.

    *Time.* Rounds of a drafter are Gamma distributed with shape `time_shape` and a rate of which, after n rounds of T
    seconds over all requests, the belief is Gamma(`time_shape` n, T): conjugate. Time depends on the drafter and the
    load, hardly on the text, so it is pooled whole.

    Both kinds of evidence fade by `decay` with each round of the drafter. The draw's goodput is the expected number of
    accepted tokens, sum over k of q[d, k] theta[0] .. theta[k] with q the share of non-empty drafts longer than k, and
    1 for the bonus with `round_goodput`, over the mean time. A drafter that nobody tried comes first.
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
        prior_tokens: Annotated[float, Field(ge=0)],
        time_shape: Annotated[float, Field(gt=0)],
    ) -> None:
        setting.require_drafters("thompson")
        self._rng = setting.rng
        self._reward: RewardKind = reward
        self._prior_tokens = prior_tokens
        self._time_shape = time_shape
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)
        self._width = max(setting.max_num_speculative_tokens, 1)
        num_columns = 3 * self._width + 2
        self._evidence = Evidence(len(setting.drafters), num_columns, setting.num_requests, decay, per_request=True)
        """Accepted tokens, rejected tokens and drafts longer than k, for each position k; seconds; rounds."""

    def choose(self, context: RoundContext) -> IntArray:
        """A draw where a choice is due."""
        return self._held.choose(context, self._pick)

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self._pick)

    def observe(self, outcome: RoundOutcome) -> None:
        """Add what was accepted and rejected, and the time."""
        place, drafted = np.arange(self._width), outcome.drafted[:, None]
        accepted = place < outcome.accepted[:, None]
        rejected = (place == outcome.accepted[:, None]) & (place < np.maximum(drafted, 1))
        time_s = outcome.draft_time_s
        if self._reward == "round_goodput":
            time_s = time_s + outcome.verify_time_s
        shown = (accepted, rejected, place < drafted, time_s[:, None], np.ones((len(drafted), 1)))
        self._evidence.add(outcome.groups(), outcome.rows, np.concatenate(shown, axis=1, dtype=np.float64))

    def _pick(self, rows: IntArray) -> IntArray:
        *_, time_s, num_rounds = self._evidence.shared.T
        tried = num_rounds > 0
        rate = self._rng.gamma(np.where(tried, self._time_shape * num_rounds, 1.0), size=(len(rows), len(tried)))
        mean_s = self._time_shape * time_s / np.maximum(rate, np.finfo(float).tiny)
        tokens = self._accepted(rows) + (self._reward == "round_goodput")
        goodput = tokens / np.maximum(mean_s, np.finfo(float).tiny)
        return random_argmax(np.where(tried, goodput, np.inf), self._rng)

    def _accepted(self, rows: IntArray) -> FloatArray:
        """A draw of the expected number of accepted tokens, [requests, drafters]."""
        shared, own, width = self._evidence.shared, self._evidence.own, self._width
        assert own is not None
        accepted, rejected, longer = (shared[:, width * part : width * (part + 1)] for part in range(3))
        seen = accepted + rejected
        mean = (accepted + 1) / (seen + 2)
        strength = np.minimum(seen, self._prior_tokens) + 2
        own = own[rows]
        theta = self._rng.beta(
            strength * mean + own[..., :width], strength * (1 - mean) + own[..., width : 2 * width]
        )  # [requests, drafters, positions]
        share = longer / np.maximum(longer[:, :1], np.finfo(float).tiny)
        return (share * theta.cumprod(-1)).sum(-1)
