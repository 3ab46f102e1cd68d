"""Ours: drafter and draft length of every request of a batch in one choice, by context and by what a round costs."""

import numpy as np
from pydantic import ConfigDict, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.by_outlook import MemoryRounds, Optimism, OutlookSelector, PaybackRounds
from spinbench.control.selector.goodput import TokenWorth
from spinbench.control.selector.look_ahead import Outlook
from spinbench.control.selector.plan import BatchChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.survival import NUM_CELLS
from spinbench.errors import UserError


class JointSelector(OutlookSelector):
    """Per round, the drafters and draft lengths (0 included) of all requests that promise the highest batch goodput.

    How many tokens a draft of each source and length would get accepted is estimated by context (`SurvivalEstimate`);
    what that is worth depends on where the text stands (`TokenWorth`), and what it costs on the whole batch: rows of
    the verification, jobs and steps of each drafter that runs (one after another, or side by side where each has a
    device of its own), catching up after a switch (`RoundPrices`). `BatchChoice` finds the plan. Models that were
    seldom asked are taken for better than they look (optimism), so that they are tried where a mistake costs little. It
    has no chance in it.

    Where the n-gram table and prompt lookup name different first tokens, one of the two may be right where the other is
    not. With `branch` both can be drafted then, as two branches of a token tree, each as far as a token of it is worth
    its row: where rows cost little, as in small batches, that is cheaper than to choose.
    """

    name = "joint"

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        optimism: Optimism,
        payback_rounds: PaybackRounds,
        memory_rounds: MemoryRounds,
        learn_costs: bool,
        branch: bool,
    ) -> None:
        super().__init__(
            setting,
            optimism=optimism,
            payback_rounds=payback_rounds,
            memory_rounds=memory_rounds,
            learn_costs=learn_costs,
        )
        if not setting.chooses_draft_length:
            raise UserError("selector=joint chooses drafter and K together; set drafting=by_selector")
        self._worth = TokenWorth(NUM_CELLS, setting.schedule)
        self._cell = np.zeros(setting.num_requests, np.int64)
        self._beside = np.full(setting.num_requests, NO_DRAFTER)
        self._lengths_beside = np.zeros(setting.num_requests, np.int64)
        sources = self._ahead.sources
        # how far a copy agrees is known of the longest match that there is
        self.branches = (
            branch
            and setting.allows_branches
            and sources.ngrams
            and sources.copies
            and sources.max_match_tokens == NgramIndex.MAX_ORDER
        )
        self._drafting_s = self._row_s = 0.0

    def _best(self, context: RoundContext, outlook: Outlook) -> tuple[IntArray, IntArray]:
        rows, ahead = context.rows, self._ahead
        prices, num_models = outlook.prices, ahead.sources.num_models
        first_copy = num_models + ahead.sources.ngrams
        cells = ahead.survival.cells(rows)
        self._cell[rows] = cells[:, 0]
        self._drafting_s, self._row_s = prices.drafting_s, float(prices.row_slopes_s.mean() + prices.row_s.mean())
        worth = self._worth.of(cells, outlook.tokens_per_s)
        value = outlook.survival.copy()
        value[:, :first_copy] *= worth[:, None, :1]
        value[:, first_copy:] *= worth[:, None]
        choice = BatchChoice(value, prices, outlook.tokens_per_s, num_models, outlook.missing_share, outlook.guesses)
        parting = None
        if self.branches:
            parting = (context.ngram_agreed == 0) & (outlook.drafter[:, -2:] != NO_DRAFTER).all(1)
        plan = choice.best(parting)
        self._beside[rows], self._lengths_beside[rows] = NO_DRAFTER, 0
        if plan.beside is not None:
            self._beside[rows] = outlook.drafter_of(plan.beside.source)
            self._lengths_beside[rows] = plan.beside.num_speculative_tokens
        return plan.source, plan.num_speculative_tokens

    def begin(self, context: RoundContext) -> None:
        """Note by what the outcome of these requests is to be learned."""
        super().begin(context)
        self._cell[context.rows] = self._ahead.survival.cells(context.rows)[:, 0]

    def beside(self, context: RoundContext) -> tuple[IntArray, IntArray]:
        """Where copies and the n-gram table part, the other one of the two if the plan has it, and its K."""
        return self._beside[context.rows], self._lengths_beside[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._worth.observe(outcome, self._cell[outcome.rows], self._drafting_s, self._row_s)
        super().observe(outcome)
