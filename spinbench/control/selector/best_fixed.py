"""The drafter, and K, that hindsight would have fixed: what a user who tried them all would run."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.oracle.hindsight import FixedSettings, fixed_settings
from spinbench.control.selector.hindsight_costs import hindsight_costs
from spinbench.control.selector.protocol import SelectorSetting


class FixedChoice(NamedTuple):
    """From a request's beginning to its end."""

    drafter: IntArray
    """[rows]: -1 = plain decoding."""
    num_speculative_tokens: IntArray
    """[rows]"""
    time_s: float
    """Of all requests together."""


class BestFixedSelector:
    """One drafter for all (or plain decoding), the one whose rounds would have taken least by the cost model.

    With drafting=by_selector K is part of the choice, else it is the largest of the draft-length policy. With
    `per_request` every request has its own best one: the ceiling of all who choose once per request, SPIN's kind.
    Rounds are priced by what overlaps in the run: side by side with other micro-batches (at the depth where the choice
    takes least, where the pipeline finds its own), on lanes that slow each other, with drafts made ahead. Each is a
    share of a full batch of requests that are alike. At batch 1 that is exact but for the host's gaps beside drafts
    that are made ahead; else an estimate, so that there a sweep over selector=fixed may find a better one.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, per_request: bool) -> None:
        setting.require_drafters("best_fixed")
        self._foresight = setting.require_foresight("best_fixed")
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._setting = setting
        self._per_request = per_request

    @cached_property
    def _choice(self) -> FixedChoice:
        costs = hindsight_costs(self._setting, "best_fixed")
        choices = map(self._best, fixed_settings(self._foresight, costs))
        return min(choices, key=lambda choice: choice.time_s)

    def _best(self, fixed: FixedSettings) -> FixedChoice:
        lengths = fixed.num_speculative_tokens
        is_only: BoolArray = (lengths == 0) | (lengths == self.max_num_speculative_tokens)
        allowed = is_only | self._setting.chooses_draft_length
        time_s = np.where(allowed[:, None], fixed.time_s, np.inf)
        best = time_s.argmin(0) if self._per_request else np.full(time_s.shape[1], time_s.sum(1).argmin())
        return FixedChoice(fixed.drafter[best], lengths[best], float(time_s[best, np.arange(len(best))].sum()))

    def choose(self, context: RoundContext) -> IntArray:
        """The same drafter in every round of a request."""
        return self._choice.drafter[context.rows]

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """And the same K."""
        return self._choice.num_speculative_tokens[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
