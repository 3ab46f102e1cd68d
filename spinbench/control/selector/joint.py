"""Ours: drafter and draft length of every request of a batch in one choice, by context and by what a round costs."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_source import NO_SOURCE
from spinbench.control.ngram_index import NgramIndex
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.goodput import TokenWorth
from spinbench.control.selector.look_ahead import LookAhead, Outlook
from spinbench.control.selector.plan import BatchChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.survival import NUM_CELLS
from spinbench.errors import UserError


class JointSelector:
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

    needs_confidence = False
    weighs_rounds = True

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        optimism: Annotated[float, Field(ge=0)],
        payback_rounds: Annotated[float, Field(ge=1)],
        memory_rounds: Annotated[float, Field(gt=0)],
        learn_costs: bool,
        branch: bool,
    ) -> None:
        setting.require_drafters("joint")
        if not setting.chooses_draft_length:
            raise UserError("selector=joint chooses drafter and K together; set drafting=by_selector")
        self.max_num_speculative_tokens = setting.max_num_speculative_tokens
        self._ahead = LookAhead(
            setting,
            optimism=optimism,
            payback_rounds=payback_rounds,
            memory_rounds=memory_rounds,
            learn_costs=learn_costs,
        )
        self._worth = TokenWorth(NUM_CELLS, setting.schedule)
        self._cell = np.zeros(setting.num_requests, np.int64)
        self._lengths = np.zeros(setting.num_requests, np.int64)
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

    def choose(self, context: RoundContext) -> IntArray:
        """The drafters of the best plan; `lengths` then gives its draft lengths."""
        rows, ahead = context.rows, self._ahead
        if not self.max_num_speculative_tokens:
            self.begin(context)
            return np.full(len(context), NO_DRAFTER)
        outlook = ahead.outlook(context)
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
        self._lengths[rows] = plan.num_speculative_tokens
        self._beside[rows], self._lengths_beside[rows] = NO_DRAFTER, 0
        if plan.beside is not None:
            self._beside[rows] = _drafters(outlook, plan.beside.source)
            self._lengths_beside[rows] = plan.beside.num_speculative_tokens
        return _drafters(outlook, plan.source)

    def begin(self, context: RoundContext) -> None:
        """Note by what the outcome of these requests is to be learned."""
        self._ahead.survival.begin(context)
        self._cell[context.rows] = self._ahead.survival.cells(context.rows)[:, 0]

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K of the plan."""
        return self._lengths[context.rows]

    def beside(self, context: RoundContext) -> tuple[IntArray, IntArray]:
        """Where copies and the n-gram table part, the other one of the two if the plan has it, and its K."""
        return self._beside[context.rows], self._lengths_beside[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the estimates."""
        self._worth.observe(outcome, self._cell[outcome.rows], self._drafting_s, self._row_s)
        self._ahead.observe(outcome)


def _drafters(outlook: Outlook, source: IntArray) -> IntArray:
    """Who drafts from each request's source, -1 = nobody, int [requests]."""
    chosen = outlook.drafter[np.arange(len(source)), np.maximum(source, 0)]
    return np.where(source == NO_SOURCE, NO_DRAFTER, chosen)
