"""Draft length per request, by how its own drafts fared of late."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.acceptance_rate import AcceptanceRate
from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.drafter_probes import DrafterProbes
from spinbench.control.selector.protocol import SelectorSetting


class AdaptiveDraftLength:
    """The longest K whose last token is still accepted with at least a given probability; 0 if not even the first is.

    With a conditional acceptance rate a, a draft's k-th token is accepted with probability a^k.

    Who drafts nothing learns nothing: a drafter that drafts for nobody is tried now and then (`DrafterProbes`), for at
    most `probe_share` of the run's time, so that a rate that was believed too low does not stay so.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        max_num_speculative_tokens: Annotated[int, Field(ge=0, le=64)],
        min_survival: Annotated[float, Field(gt=0, lt=1)],
        prior_rate: Annotated[float, Field(gt=0, lt=1)],
        decay: Annotated[float, Field(gt=0, le=1)],
        probe_share: Annotated[float, Field(ge=0, lt=1)],
    ) -> None:
        self.max_num_speculative_tokens = max_num_speculative_tokens
        self._log_min_survival = float(np.log(min_survival))
        self._rate = AcceptanceRate(len(setting.drafters), setting.num_requests, prior_rate, decay)
        self._probes = DrafterProbes(setting, max_num_speculative_tokens, probe_share)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """floor(log(min_survival) / log(a)) per request, at most the largest K; 1 where a drafter is tried."""
        rate = self._rate.of_requests(context.rows, drafters)
        longest = np.zeros(len(rate))
        drafts = rate > 0
        longest[drafts] = self._log_min_survival / np.log(rate[drafts])
        chosen = np.minimum(longest, self.max_num_speculative_tokens).astype(np.int64)
        return self._probes.lengths(chosen, context, drafters, rate, len(context))

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the rates, and what rounds cost."""
        self._rate.observe(outcome)
        self._probes.observe(outcome)
