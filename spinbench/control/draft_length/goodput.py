"""One draft length for the batch: the one of highest predicted goodput."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.acceptance_rate import AcceptanceRate
from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.probing import Probes
from spinbench.control.drafting.draft_source import NO_SOURCE, DraftSources
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.round_times import round_times


class GoodputDraftLength:
    """The K, 0 included, that maximises expected tokens of the round / its predicted time.

    TurboSpec's goodput (SmartSpec, arXiv 2406.14066): with conditional acceptance rate a of a request's drafter, K
    drafted tokens give 1 + a + .. + a^K tokens. Time is that of the cost model, where there is none of prices learned
    from the run's own times.

    Who drafts nothing learns nothing: where that K is 0, `Probes` has a token drafted now and then, for at most
    `probe_share` of the run's time, so that a rate that was believed too low does not stay so.
    """

    weighs_rounds = True

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        max_num_speculative_tokens: Annotated[int, Field(ge=0, le=64)],
        prior_rate: Annotated[float, Field(gt=0, lt=1)],
        decay: Annotated[float, Field(gt=0, le=1)],
        probe_share: Annotated[float, Field(ge=0, lt=1)],
    ) -> None:
        self.max_num_speculative_tokens = max_num_speculative_tokens
        self._sources = DraftSources.of(setting.drafters)
        self._times = round_times(setting, self._sources, max_num_speculative_tokens)
        self._rate = AcceptanceRate(len(setting.drafters), setting.num_requests, prior_rate, decay)
        self._probes = Probes(probe_share)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """The best K for every request that has a drafter."""
        source = self._sources.of_drafters(drafters, context.lookup_match_order)
        drafts = source != NO_SOURCE
        if not drafts.any() or not self.max_num_speculative_tokens:
            return np.zeros(len(context), np.int64)
        missing = self._sources.missing_tokens(context.missing_kv_tokens, drafters, source)
        prices = self._times.prices(context, missing)
        rate = self._rate.of_drafters()[drafters]
        steps = np.arange(self.max_num_speculative_tokens + 1)
        tokens = len(context) + np.where(drafts[:, None], rate[:, None] ** steps[1:], 0.0).sum(0).cumsum()
        tokens = np.append(len(context), tokens)
        if context.num_ready:  # as those who draft would do with drafts so long
            mean_rate, length = float(rate[drafts].mean()), context.ready_tokens / context.num_ready
            tokens = tokens + context.num_ready * (1 - mean_rate ** (length + 1)) / (1 - mean_rate)
        round_s = prices.round_s(np.outer(steps, drafts), source, rate, self._sources.num_models)
        best = int((tokens / round_s).argmax())
        catch_up_s = float(prices.missing_s[drafts, source[drafts]].sum())
        num_drafts = int(np.count_nonzero(drafts))
        if not best and self._probes.take(float(round_s[1] - round_s[0]), catch_up_s, num_drafts):
            best = 1
        self._probes.passed(float(round_s[best]))
        return np.where(drafts, best, 0)

    def observe(self, outcome: RoundOutcome) -> None:
        """Update rates and prices."""
        self._rate.observe(outcome)
        self._times.observe(outcome)
