"""Who knows the texts in advance: what no selector can do without, to measure the others by."""

from functools import cached_property

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.oracle.optimum import Optimum, optimum
from spinbench.control.selector.hindsight_costs import hindsight_costs
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError


class OracleSelector:
    """Follows, token by token, the optimum of `spinbench.control.oracle`: the drafter, and K as well.

    It is selector and draft length in one; the configured draft-length policy only gives the largest K. Rounds are
    priced as shares of a full batch of requests that are alike, with KV catch-up for nothing, by what overlaps in the
    run; where the pipeline finds its depth, at the one where the optimum takes least.

    At batch 1 this is the exact optimum but for the catch-up, which a run does pay: nothing overlaps there, whatever
    pipeline and placement. In a batch each request follows a plan of its own, a policy and no bound. Drafts made ahead
    are refused: they tie a round's drafter and K to those of the round before.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting) -> None:
        self._foresight = setting.require_foresight("oracle")
        if setting.drafts_ahead:
            raise UserError(
                "selector=oracle plans every round anew, and with pipeline=draft_while_verify drafts are made in the "
                "round before; set pipeline=serial or micro_batches, or selector=best_fixed"
            )
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._setting = setting

    @cached_property
    def _plan(self) -> Optimum:
        plans = [optimum(self._foresight, cost) for cost in hindsight_costs(self._setting, "oracle")]
        return min(plans, key=lambda plan: float(plan.time_s.sum()))

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
