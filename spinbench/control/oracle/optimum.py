"""The least time in which the texts of a run can be emitted, and the choices that take it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.layout.plan import LayoutKind
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.round_cost import RoundCost, exact_round_cost
from spinbench.control.request_table import NO_DRAFTER


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best that any choice of drafter and K per round can do."""

    time_s: FloatArray
    """[rows]: seconds from a request's first token, which the prefill emits, to its last."""
    drafter: npt.NDArray[np.int16]
    """[positions]: whom to ask when so much is emitted; -1 = decode plainly; -1 at 0, where no round begins."""
    num_speculative_tokens: npt.NDArray[np.uint8]
    """[positions]: how many tokens to ask for, all of which are accepted."""


def oracle(
    foresight: Foresight, model: CostModel, max_num_speculative_tokens: int, layout: LayoutKind = "packed"
) -> Optimum:
    """The optimum for requests served one at a time, K from 0 to `max_num_speculative_tokens` (at most 255).

    Exact where every round costs what `model` says of its draft, its verification and the gaps between them. KV
    catch-up is free, and a drafter lacks the newest token alone, so for real selectors, which pay for what a drafter
    has not followed, the optimum is a bound: of time from below, of goodput from above.
    """
    return optimum(foresight, exact_round_cost(model, foresight, max_num_speculative_tokens, layout))


def optimum(foresight: Foresight, cost: RoundCost) -> Optimum:
    """The optimum for rounds of this cost, by dynamic programming.

    V[t], the least time once t tokens are emitted, is min over drafters d and K of cost(d, K, context) +
    V[t + accepted + 1], and 0 at the text's end. Costs do not fall with K, so a draft is never longer than what is
    accepted of it: K is at most d's run at t, and accepted = K. Goes backwards over the tokens left, all requests at
    once. Raises ValueError where drafts are made ahead: then a round depends on the one before.
    """
    if cost.schedule.drafts_ahead:
        raise ValueError("a round whose draft was made ahead has no cost of its own")
    streams = foresight.streams
    order = np.argsort(-streams.num_tokens, kind="stable")  # who has more left than a number is a prefix of it
    lengths, ends = streams.num_tokens[order], streams.offsets[order + 1]
    drafter = np.full(int(streams.offsets[-1]), NO_DRAFTER, np.int16)
    drafted = np.zeros(len(drafter), np.uint8)
    time_s = np.zeros(len(order))
    # V by tokens left, of which K + 2 are needed at a time; none left: 0
    ring = cost.max_num_speculative_tokens + 2
    value_s = np.zeros((ring, len(order)))
    for left in range(1, int(lengths.max(initial=0))):
        count = int(np.searchsorted(-lengths, -left))
        rows, emitted = order[:count], lengths[:count] - left
        after_s = [value_s[(left - 1 - k) % ring, :count] for k in range(min(ring - 1, left))]
        best_s, chosen, length = _best_rounds(foresight, cost, rows, emitted, after_s)
        value_s[left % ring, :count] = best_s
        drafter[ends[:count] - left], drafted[ends[:count] - left] = chosen, length
        first = emitted == 1
        time_s[rows[first]] = best_s[first] + cost.start_s
    return Optimum(time_s, drafter, drafted)


def _best_rounds(
    foresight: Foresight, cost: RoundCost, rows: IntArray, emitted: IntArray, after_s: list[FloatArray]
) -> tuple[FloatArray, IntArray, IntArray]:
    """Per request the least time to its end, the drafter and K that begin it; `after_s` is V behind a round, by K."""
    count, drafters = len(rows), np.arange(len(foresight.drafters))
    context = foresight.num_prompt_tokens[rows] + emitted - cost.first_context_tokens
    fates = [foresight.of_drafter(drafter, rows, emitted) for drafter in drafters.tolist()]
    run = np.array([run for run, _ in fates], np.int64).reshape(-1, count)  # [drafters, requests]
    way = np.array([by_lookup for _, by_lookup in fates], np.int64).reshape(-1, count)
    best_s = cost.round_s(np.zeros(count), cost.verify_s[0, context]) + after_s[0]
    chosen, length = np.full(count, NO_DRAFTER), np.zeros(count, np.int64)
    for k in range(1, len(after_s)):
        draft_s = np.where(run >= k, cost.draft_s[drafters[:, None], way, k, context], np.inf)
        cheapest = draft_s.argmin(0)
        total_s = cost.round_s(draft_s[cheapest, np.arange(count)], cost.verify_s[k, context]) + after_s[k]
        better = total_s < best_s
        best_s = np.where(better, total_s, best_s)
        chosen, length = np.where(better, cheapest, chosen), np.where(better, k, length)
    return best_s, chosen, length
