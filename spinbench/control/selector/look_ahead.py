"""What a selector knows before it chooses: chances of every draft, prices of a round, what time is worth."""

from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.round_prices import RoundPrices
from spinbench.control.drafting.draft_source import NO_SOURCE, DraftSources
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.goodput import RunGoodput
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.round_times import round_times
from spinbench.control.selector.survival import SurvivalEstimate
from spinbench.control.selector.survival_prior import SurvivalPrior

TINY_CHANCE = 1e-12
MEAN_TOKENS_PER_ROUND = 2
"""For how many rounds a request may go on, from what it may still emit."""


class Outlook(NamedTuple):
    """Before a round of n requests."""

    drafter: IntArray
    """[n, sources]: who drafts from each source, -1 = nobody can."""
    survival: FloatArray
    """[n, sources, K]: P(the first k tokens are all accepted), 0 where nothing can be drafted or emitted."""
    prices: RoundPrices
    tokens_per_s: float
    """What a second of the round is worth."""
    missing_share: FloatArray
    """[n]: part of a catch-up that one round has to earn back."""
    guesses: FloatArray | None = None
    """[n, sources, K]: P(a draft of k tokens is kept, and the guess behind it right), so that what is drafted ahead is
    the next draft; None where nothing is."""

    def drafter_of(self, source: IntArray) -> IntArray:
        """Who drafts from each request's source, -1 = nobody, int [n]."""
        chosen = self.drafter[np.arange(len(source)), np.maximum(source, 0)]
        return np.where(source == NO_SOURCE, NO_DRAFTER, chosen)


class LookAhead:
    """Estimates that are shared by all who choose by context."""

    def __init__(
        self,
        setting: SelectorSetting,
        *,
        optimism: float,
        payback_rounds: float,
        memory_rounds: float,
        learn_costs: bool,
    ) -> None:
        most = setting.max_num_speculative_tokens
        self.sources = DraftSources.of(setting.drafters)
        self.survival = SurvivalEstimate(
            self.sources, setting.num_requests, most, SurvivalPrior(memory_rounds=memory_rounds)
        )
        self.times = round_times(setting, self.sources, most, learn_costs=learn_costs)
        self.goodput = RunGoodput(setting.max_num_seqs, setting.schedule)
        self._drafts_ahead = setting.drafts_ahead
        self._optimism = optimism
        self._payback_rounds = payback_rounds

    def outlook(self, context: RoundContext) -> Outlook:
        """For the requests of a round."""
        self.survival.begin(context)
        drafter = self.sources.drafter_table[context.lookup_match_order]
        survival = self.survival.survival(context.rows, self._optimism)
        guesses = self._guesses(survival, context) if self._drafts_ahead else None
        useful = np.arange(survival.shape[2]) < context.remaining_tokens[:, None] - 1
        survival *= (drafter != NO_DRAFTER)[:, :, None] & useful[:, None]
        missing = np.take_along_axis(context.missing_kv_tokens, np.maximum(drafter, 0), 1)
        prices = self.times.prices(context, missing)
        tokens_per_s = self.goodput.tokens_per_s(len(context) + context.num_ready, float(prices.verify_s[0]))
        rounds = np.clip(context.remaining_tokens / MEAN_TOKENS_PER_ROUND, 1, self._payback_rounds)
        return Outlook(drafter, survival, prices, tokens_per_s, 1 / rounds, guesses)

    def _guesses(self, survival: FloatArray, context: RoundContext) -> FloatArray:
        """From what is thought of one token more; of the longest draft, as if it were like the one before it."""
        most = survival.shape[2]
        before = survival[:, :, -2] if most > 1 else 1.0
        further = np.minimum(survival[:, :, -1] ** 2 / np.maximum(before, TINY_CHANCE), survival[:, :, -1])
        guesses = np.concatenate((survival[:, :, 1:], further[:, :, None]), 2)
        guesses[:, self.sources.num_models :] = 0.0
        # the last token of an answer is never drafted
        return guesses * (np.arange(most) + 3 < context.remaining_tokens[:, None])[:, None]

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a finished round."""
        self.survival.observe(outcome)
        self.times.observe(outcome)
        self.goodput.observe(outcome)
