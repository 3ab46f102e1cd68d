"""Tries of drafters that a policy with K per request has given up."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.probing import Probes
from spinbench.control.drafting.draft_source import NO_SOURCE, DraftSources
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.round_times import round_times


class DrafterProbes:
    """Has a token drafted now and then where a drafter drafts for nobody, so that what is believed of it can change.

    Of a drafter that drafts for others of the round more is known with it; it is not tried.
    """

    def __init__(self, setting: SelectorSetting, max_num_speculative_tokens: int, probe_share: float) -> None:
        """`max_num_speculative_tokens` is the policy's largest K, `probe_share` as of `Probes`."""
        self._most = max_num_speculative_tokens
        self._sources = DraftSources.of(setting.drafters)
        self._times = round_times(setting, self._sources, max_num_speculative_tokens)
        self._schedule = setting.schedule
        self._probes = Probes(probe_share)
        self._nobody = np.zeros(len(setting.drafters) + 1, np.bool_)

    def lengths(
        self, chosen: IntArray, context: RoundContext, drafters: IntArray, rate: FloatArray, max_probes: int
    ) -> IntArray:
        """The `chosen` K, or 1 for up to `max_probes` requests whose drafter drafts for nobody; int [requests].

        `rate` [requests] is the chance that a token of the request's drafter is right.
        """
        is_busy = self._nobody.copy()
        is_busy[drafters[chosen > 0]] = True
        is_busy[NO_DRAFTER] = True  # the last entry
        is_idle = ~is_busy[drafters]
        if not self._most or not is_idle.any():
            return chosen
        source = self._sources.of_drafters(drafters, context.lookup_match_order)
        places = np.flatnonzero(is_idle & (source != NO_SOURCE) & (context.remaining_tokens > 1))[:max_probes]
        if not len(places):
            return chosen
        with_probes = chosen.copy()
        with_probes[places] = 1
        missing = self._sources.missing_tokens(context.missing_kv_tokens, drafters, source)
        prices = self._times.prices(context, missing)
        cases = np.stack((chosen, with_probes))
        without_s, with_s = prices.round_s(cases, source, rate, self._sources.num_models).tolist()
        catch_up_s = float(prices.missing_s[places, source[places]].sum())
        return with_probes if self._probes.take(with_s - without_s, catch_up_s, len(places)) else chosen

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn what rounds cost, and put by the share of one."""
        self._times.observe(outcome)
        self._probes.passed(self._schedule.measured_s(outcome))
