"""What rounds cost by a profile."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.model_cost import DrafterCost
from spinbench.control.costs.round_prices import DraftPrices, RoundPrices, row_slopes_s
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.recently_used import RecentlyUsed

CONTEXT_STEP_TOKENS = 64
"""Drafting is priced anew when the mean context has grown by so much."""
MAX_KNOWN = 1024
"""Kinds of rounds whose prices are kept: at batch 64 and K = 8 some 16 MB. With drafts made ahead a long run comes to
any number of kinds; what was dropped is worked out again, to the same numbers."""

_Known = tuple[FloatArray, FloatArray, DraftPrices]
"""Of a verification by drafted rows, its slopes, and of drafting."""


class ProfiledTimes:
    """Prices from a cost model; the packed layout's, where it has that.

    The model knows jobs that have their device to themselves; `schedule` says how much slower its lanes are.
    """

    def __init__(
        self,
        costs: CostModel,
        sources: DraftSources,
        max_num_speculative_tokens: int,
        schedule: RoundSchedule = BY_TURNS,
    ) -> None:
        self._costs = costs
        self._schedule = schedule
        self._sources = sources
        self._most = max_num_speculative_tokens
        self._verify = costs.verify["packed"] if "packed" in costs.verify else next(iter(costs.verify.values()))
        self._known: RecentlyUsed[_Known] = RecentlyUsed(MAX_KNOWN)
        self._rows_s: FloatArray = np.zeros(0)
        """Of the target's passes without attention, by rows, as far as it was asked for."""
        self._missing_s = self._missing_table()
        """[sources, tokens]"""

    def prices(self, context: RoundContext, missing_tokens: IntArray) -> RoundPrices:
        """What depends on the number of requests, and roughly on the mean context, is kept."""
        attention, overlap = self._costs.target.ragged, self._schedule.overlap
        factor = overlap.target_alone * self._verify.pass_factor
        tokens = context.context_tokens.astype(np.float64)
        total_tokens = int(tokens.sum())
        count = len(context)
        key = count, total_tokens // (count * CONTEXT_STEP_TOKENS), context.num_ready, context.ready_tokens
        verify_s, slopes_s, draft = self._known.get(key, lambda: self._worked_out(context, key[1]))
        keys_s = factor * attention.key_s * total_tokens
        if context.num_ready:  # their contexts are taken to be as long as the others' are in the mean
            mean_tokens = total_tokens / count
            own_s = context.num_ready * (attention.key_s * mean_tokens + attention.extend_request_s)
            rows_s = context.ready_tokens * (attention.extend_row_s + attention.extend_cell_s * mean_tokens)
            keys_s += factor * (own_s + rows_s)
        last = self._missing_s.shape[1] - 1
        return RoundPrices(
            verify_s + keys_s,
            slopes_s,
            factor * attention.extend_request_s,
            factor * (attention.extend_row_s + attention.extend_cell_s * tokens),
            draft,
            overlap.drafter_alone * self._missing_s[np.arange(len(self._missing_s)), np.minimum(missing_tokens, last)],
            self._schedule.with_in_flight(context.num_in_flight),
        )

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""

    def _worked_out(self, context: RoundContext, context_steps: int) -> _Known:
        """For the number of requests, of drafts that are there and of their tokens; nothing else of the context."""
        verify_s = self._verify_s(context)
        draft = self._draft_prices(len(context), (context_steps + 0.5) * CONTEXT_STEP_TOKENS)
        return verify_s, row_slopes_s(verify_s[: len(context) * self._most + 1]), draft

    def _verify_s(self, context: RoundContext) -> FloatArray:
        """By rows drafted for those who are chosen for, attention to keys and behind others' drafts left out."""
        target, gap, count = self._costs.target, self._costs.gap("verify"), len(context) + context.num_ready
        first = count + context.ready_tokens
        last = first + 2 * len(context) * self._most
        if last >= len(self._rows_s):
            self._rows_s = np.array([0.0, *(target.rows_s(row, row) for row in range(1, last + 1))])
        rows_s = self._rows_s[first : last + 1]
        attention_s = target.ragged.pass_s + count * target.ragged.request_s
        alone_s = self._verify.of(rows_s + attention_s, count, 1)
        return self._schedule.overlap.target_alone * alone_s + gap.gap_s + gap.request_s * count

    def _draft_prices(self, count: int, mean_tokens: float) -> DraftPrices:
        drafters = [self._costs.drafters[places[0]] for places in self._sources.by_source]
        prices = [self._price(source, drafter, count, mean_tokens) for source, drafter in enumerate(drafters)]
        gap = self._costs.gap("draft")
        job_s, request_s, step_s, step_request_s = (
            self._schedule.overlap.drafter_alone * np.array(prices).reshape(-1, 4).T
        )
        return DraftPrices(job_s + gap.gap_s, request_s + gap.request_s, step_s, step_request_s)

    def _price(
        self, source: int, drafter: DrafterCost, count: int, mean_tokens: float
    ) -> tuple[float, float, float, float]:
        if source < self._sources.num_models:
            return _model_price(drafter, count, mean_tokens)
        if self._sources.ngrams and source == self._sources.num_models:
            return _ngram_price(drafter)
        return _copy_price(drafter)

    def _missing_table(self) -> FloatArray:
        """Seconds by source and missing tokens; beyond the profiled contexts as at their end."""
        tokens = np.arange(self._costs.target.max_context_tokens + 1)
        table = np.zeros((len(self._sources), len(tokens)))
        for source in range(self._sources.num_models):
            table[source] = _missing_s(self._costs.drafters[self._sources.by_source[source][0]], tokens)
        return table


def _copy_price(drafter: DrafterCost) -> tuple[float, float, float, float]:
    job = drafter.profiled(drafter.lookup, "lookups")
    return job.job_s, job.request_s, 0.0, 0.0


def _ngram_price(drafter: DrafterCost) -> tuple[float, float, float, float]:
    job = drafter.profiled(drafter.draft, "drafts")
    return job.job_s, job.request_s, job.pass_s, 0.0


def _model_price(drafter: DrafterCost, count: int, mean_tokens: float) -> tuple[float, float, float, float]:
    model, job = drafter.profiled(drafter.model, "passes"), drafter.profiled(drafter.draft, "drafts")
    alone_s = model.rows_s(1, 1)
    row_s = (model.rows_s(count, count) - alone_s) / (count - 1) if count > 1 else 0.0
    # a row's share of the curve, taken off the step so that `count` requests cost what the curve says
    step_s = job.pass_s + job.pass_factor * (alone_s - row_s + model.ragged.pass_s)
    return job.job_s, job.request_s, step_s, job.pass_factor * (row_s + model.ragged.decode_s(mean_tokens))


def _missing_s(drafter: DrafterCost, missing: IntArray) -> FloatArray:
    model, draft = drafter.profiled(drafter.model, "passes"), drafter.profiled(drafter.draft, "drafts")
    catch_up = drafter.profiled(drafter.catch_up, "catch-ups")
    forward, attention = model.forward, model.ragged
    rows_s = np.interp(missing, forward.counts, forward.seconds) - forward.seconds[0]
    within_s = np.where(missing > 1, rows_s + attention.extend_request_s, 0.0)
    whole_s = np.interp(missing, attention.whole.counts, attention.whole.seconds) + attention.request_s
    alone_s = catch_up.job_s + catch_up.request_s + catch_up.pass_factor * (rows_s + forward.seconds[0] + whole_s)
    return np.where(missing > MAX_UNSEEN_TOKENS, alone_s, draft.pass_factor * within_s)
