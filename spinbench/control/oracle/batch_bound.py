"""A bound for batches: less time than this no choice of drafters and K can take."""

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import JobCost
from spinbench.control.costs.model_cost import ModelCost
from spinbench.control.layout.plan import LayoutKind
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.optimum import Optimum, optimum
from spinbench.control.oracle.round_cost import RoundCost, draft_table

MAX_EVALUATIONS = 12
"""Prices of a row that are tried."""


def batch_bound(
    foresight: Foresight,
    model: CostModel,
    max_num_speculative_tokens: int,
    max_num_seqs: int,
    layout: LayoutKind = "packed",
) -> Optimum:
    """An optimum whose `time_s`, summed over the requests, no run without preemptions can beat in decoding time.

    Decoding time is `decode_time_s` of a run with at most `max_num_seqs` requests in a round: every round with the gap
    before it, prefills left out. The bound divides each round among its requests so that no share depends on others;
    then each request can be optimised alone, and the sum of the optima is at most the sum over any run's rounds.

    - *Verification* of m requests and R rows takes G(R) (forward pass and head by rows, launch, job, gap; none falls
      with padding rows) and what is each request's own: its attention. For any a, c >= 0 with a m + c R <= G(R) for
      all 1 <= m <= max_num_seqs and m <= R <= m (K + 1), a request with r rows is charged a + c r and its own part.
      For a price c the largest such a is min over R of (G(R) - c R) / min(R, max_num_seqs). The bound is concave in
      c, and the best of a dozen prices is taken; each one alone is valid.
    - *Gaps*. A round behind a verification has nobody who was not in it, so its gap is at least that of a verification
      of its own requests. Behind a prefill it may be shorter; there are at most as many prefills as requests, and each
      request is credited the largest difference.
    - *Drafting* of n requests takes P(n) for each step, with n falling as requests are done, and a part that is each
      request's own. A request is charged p for each of its steps, p = min over n of P(n) / n. A lookup's and a job's
      fixed time, and the gap behind it, are charged by 1 / max_num_seqs.

    It is loose where rounds are not full (a run's last requests pay a full batch's share), where G is neither
    proportional nor constant between few and many rows, and where requests use different drafters: each group pays for
    its own passes, the bound for one full one. A preemption emits a token by a prefill, which the bound does not know.
    For one request at a time use `oracle`, which is exact.
    """
    most = max_num_speculative_tokens if foresight.drafters else 0
    batch = max(1, min(max_num_seqs, len(foresight.max_new_tokens)))
    shares = _Shares(model, foresight, most, batch, layout)
    found: list[Optimum] = []

    def shortfall(row_s: float) -> float:
        found.append(optimum(foresight, shares.round_cost(row_s)))
        return -float(found[-1].time_s.sum())

    highest = float((shares.rounds_s / shares.num_rows).min())
    shortfall(0.0)
    if highest > 0:
        shortfall(highest)
        from scipy.optimize import minimize_scalar  # imported where it is needed: it takes a second

        options = {"maxiter": MAX_EVALUATIONS - len(found)}
        minimize_scalar(shortfall, bounds=(0.0, highest), method="bounded", options=options)
    return max(found, key=lambda one: one.time_s.sum())


class _Shares:
    """What one request of a batch is charged."""

    def __init__(
        self, model: CostModel, foresight: Foresight, max_num_speculative_tokens: int, batch: int, layout: LayoutKind
    ) -> None:
        contexts, drafted = foresight.contexts, range(max_num_speculative_tokens + 1)
        self._first_context_tokens = int(contexts[0])
        self._batch = batch
        self.num_rows = np.arange(1, batch * len(drafted) + 1)
        rows_s = _verify_rows_s(model, layout, len(self.num_rows))
        alone_s = np.array([model.verify_s(1, k, contexts, layout) for k in drafted])
        self._own_s = alone_s - rows_s[: len(drafted), None]
        gap = model.gap("verify")
        self._own_s += gap.request_s
        self.rounds_s = rows_s + gap.gap_s
        """[rows]: G by rows, from 1."""
        credit_s = max(0.0, model.gap("verify").of(batch) - model.gap("prefill").of(1))
        with_rounds = int(np.count_nonzero(foresight.streams.num_tokens > 1))
        self._start_s = -credit_s * len(foresight.max_new_tokens) / max(1, with_rounds)
        self._draft_s = _draft_shares(model, foresight, max_num_speculative_tokens, batch)

    def round_cost(self, row_s: float) -> RoundCost:
        """The shares at a price of `row_s` for each row."""
        request_s = float(((self.rounds_s - row_s * self.num_rows) / np.minimum(self.num_rows, self._batch)).min())
        rows_s = max(0.0, request_s) + row_s * np.arange(1, len(self._own_s) + 1)
        return RoundCost(self._first_context_tokens, self._own_s + rows_s[:, None], self._draft_s, self._start_s)


def _verify_rows_s(model: CostModel, layout: LayoutKind, most: int) -> FloatArray:
    """Seconds of a verification, each request's own part left out, by rows from 1 to `most`."""
    target, cost = model.target, model.verify[layout]
    attention_s = target.ragged.pass_s if layout == "packed" else target.rectangle[layout].rectangle_s
    return _passes_s(target, cost, attention_s, most) + cost.job_s


def _passes_s(model: ModelCost, cost: JobCost, attention_s: float, most: int) -> FloatArray:
    """Seconds that a pass adds to its job, each request's own part left out, by rows from 1 to `most`."""
    rows_s = np.array([model.rows_s(rows, rows) for rows in range(1, most + 1)])
    return cost.pass_factor * (rows_s + attention_s) + cost.pass_s


def _draft_shares(model: CostModel, foresight: Foresight, max_num_speculative_tokens: int, batch: int) -> FloatArray:
    """What of a draft by its request alone remains when a batch shares it, [drafters, 2, K + 1, contexts]."""
    table = draft_table(model, foresight, max_num_speculative_tokens)
    steps, spared = np.arange(1, max_num_speculative_tokens + 1)[:, None], 1 - 1 / batch
    gap_s = model.gap("draft").gap_s
    for drafter, cost in enumerate(model.drafters):
        if cost.lookup is not None:
            table[drafter, 1, 1:] -= spared * (cost.lookup.job_s + gap_s)
        if cost.draft is not None and cost.model is not None:
            passes_s = _passes_s(cost.model, cost.draft, cost.model.ragged.pass_s, batch)
            least_s = float((passes_s / np.arange(1, batch + 1)).min())
            table[drafter, 0, 1:] -= spared * (cost.draft.job_s + gap_s) + steps * (float(passes_s[0]) - least_s)
    return table
