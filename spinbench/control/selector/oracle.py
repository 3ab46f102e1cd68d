"""Who knows the texts in advance: what no selector can do without, to measure the others by."""

from functools import cached_property

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.oracle.optimum import Optimum, oracle
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError


class OracleSelector:
    """Follows, token by token, the optimum of `spinbench.control.oracle`: the drafter, and K as well.

    It is selector and draft length in one; the configured draft-length policy only gives the largest K. The optimum is
    of requests served one at a time with KV catch-up for nothing. So at batch 1 this is the exact optimum but for the
    catch-up, which a run does pay; in a batch it is the same plan for each request by itself, a policy and no bound.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting) -> None:
        if setting.foresight is None:
            raise UserError(
                "selector=oracle knows every text in advance, which real models do not: it needs engine=simulation"
            )
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._foresight = setting.foresight
        self._cost_model = setting.cost_model

    @cached_property
    def _plan(self) -> Optimum:
        if self._cost_model is None:
            raise UserError("selector=oracle weighs what jobs will take; it needs durations that a profile predicts")
        return oracle(self._foresight, self._cost_model, self.max_num_speculative_tokens)

    def choose(self, context: RoundContext) -> IntArray:
        """Whom the optimum asks when so much is emitted."""
        return self._plan.drafter[self._at(context)].astype(np.int64)

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """How many tokens it asks for: all of them will be accepted."""
        return self._plan.num_speculative_tokens[self._at(context)].astype(np.int64)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""

    def _at(self, context: RoundContext) -> IntArray:
        return self._foresight.streams.offsets[context.rows] + context.output_tokens
