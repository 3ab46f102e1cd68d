"""The drafter, and K, that hindsight would have fixed: what a user who tried them all would run."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.oracle.hindsight import fixed_settings
from spinbench.control.oracle.round_cost import exact_round_cost
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError


class FixedChoice(NamedTuple):
    """From a request's beginning to its end."""

    drafter: IntArray
    """[rows]: -1 = plain decoding."""
    num_speculative_tokens: IntArray
    """[rows]"""


class BestFixedSelector:
    """One drafter for all (or plain decoding), the one whose rounds would have taken least by the cost model.

    With drafting=by_selector K is part of the choice, else it is the largest of the draft-length policy. With
    `per_request` every request has its own best one: the ceiling of all who choose once per request, SPIN's kind.
    Rounds are priced as shares of a full batch of requests that are alike, one job after another; at batch 1 on one
    device that is exact, else an estimate, so that there a sweep over selector=fixed may find a better one.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, per_request: bool) -> None:
        setting.require_drafters("best_fixed")
        if setting.foresight is None:
            raise UserError(
                "selector=best_fixed knows every text in advance, which real models do not: it needs engine=simulation"
            )
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._setting = setting
        self._per_request = per_request

    @cached_property
    def _choice(self) -> FixedChoice:
        setting, most = self._setting, self.max_num_speculative_tokens
        if setting.cost_model is None or setting.foresight is None:
            raise UserError("selector=best_fixed weighs what jobs take; it needs durations that a profile predicts")
        cost = exact_round_cost(setting.cost_model, setting.foresight, most, num_requests=setting.max_num_seqs)
        fixed = fixed_settings(setting.foresight, cost)
        lengths = fixed.num_speculative_tokens
        allowed: BoolArray = (lengths == 0) | (lengths == most) | setting.chooses_draft_length
        time_s = np.where(allowed[:, None], fixed.time_s, np.inf)
        best = time_s.argmin(0) if self._per_request else np.full(time_s.shape[1], time_s.sum(1).argmin())
        return FixedChoice(fixed.drafter[best], lengths[best])

    def choose(self, context: RoundContext) -> IntArray:
        """The same drafter in every round of a request."""
        return self._choice.drafter[context.rows]

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """And the same K."""
        return self._choice.num_speculative_tokens[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
