"""Draft slots shared by a batch: those tokens are drafted that are likeliest to be accepted."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.acceptance_rate import AcceptanceRate
from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.drafter_probes import DrafterProbes
from spinbench.control.selector.protocol import SelectorSetting


class BudgetDraftLength:
    """A budget of rows per verification: each request's own token takes one, the best drafted ones the rest.

    A token's survival probability is a^k for the k-th of a request with conditional acceptance rate a; the slots go to
    the largest ones over all requests, as in TETRIS (arXiv 2502.15197), which picks them behind the drafting, by
    the drafters' probabilities. The fuller the batch, the fewer slots remain: under load speculation is off.

    Who drafts nothing learns nothing: where slots are left, a drafter that drafts for nobody is tried now and then
    (`DrafterProbes`), for at most `probe_share` of the run's time, so that a rate that was believed too low does not
    stay so.
    """

    weighs_rounds = True

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        max_num_speculative_tokens: Annotated[int, Field(ge=0, le=64)],
        max_verified_tokens: Annotated[int, Field(ge=1)],
        min_survival: Annotated[float, Field(ge=0, lt=1)],
        prior_rate: Annotated[float, Field(gt=0, lt=1)],
        decay: Annotated[float, Field(gt=0, le=1)],
        probe_share: Annotated[float, Field(ge=0, lt=1)],
    ) -> None:
        self.max_num_speculative_tokens = max_num_speculative_tokens
        self._max_verified_tokens = max_verified_tokens
        self._min_survival = min_survival
        self._rate = AcceptanceRate(len(setting.drafters), setting.num_requests, prior_rate, decay)
        self._probes = DrafterProbes(setting, max_num_speculative_tokens, probe_share)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """The slots that each request wins; one of those that are left where a drafter is tried."""
        count, most = len(context), self.max_num_speculative_tokens
        slots = min(max(0, self._max_verified_tokens - count), count * most)
        if not slots:
            return np.zeros(count, np.int64)
        rate = self._rate.of_requests(context.rows, drafters)
        steps = np.arange(1, most + 1)
        survival = rate[:, None] ** steps
        # a slot behind a request's last useful token would be lost to the others
        survival[steps > context.remaining_tokens[:, None] - 1] = 0.0
        # probabilities fall along a request, so the chosen slots of one are always its first
        order = np.argsort(-survival, axis=None, kind="stable")[:slots]
        worthwhile = survival.reshape(-1)[order] > self._min_survival
        chosen = np.bincount(order[worthwhile] // most, minlength=count)
        return self._probes.lengths(chosen, context, drafters, rate, slots - int(chosen.sum()))

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the rates, and what rounds cost."""
        self._rate.observe(outcome)
        self._probes.observe(outcome)
