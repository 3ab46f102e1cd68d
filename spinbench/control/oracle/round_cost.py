"""What a round costs a request, by drafter, draft length and context, in tables that a search can index."""

from dataclasses import dataclass

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.cost_model import CostModel
from spinbench.control.layout import LayoutKind
from spinbench.control.oracle.foresight import Foresight


@dataclass(frozen=True, eq=False)
class RoundCost:
    """Seconds of a round = `verify_s` + `draft_s`, and `start_s` once per request.

    The last axis of both tables is the context length, from `first_context_tokens` on.
    """

    first_context_tokens: int
    verify_s: FloatArray
    """[K + 1, contexts], by drafted tokens: the loop's gap before the round, and the verification."""
    draft_s: FloatArray
    """[drafters, 2, K + 1, contexts], by model (0) or by lookup (1), by tokens asked for: the draft and the gap behind
    it; 0 for no token, infinite where a drafter does not draft in that way."""
    start_s: float
    """What the first round takes more: it begins with the gap behind a prefill, not behind a verification."""

    @property
    def max_num_speculative_tokens(self) -> int:
        """The largest K."""
        return len(self.verify_s) - 1


def exact_round_cost(
    model: CostModel,
    foresight: Foresight,
    max_num_speculative_tokens: int,
    layout: LayoutKind = "packed",
    num_requests: int = 1,
) -> RoundCost:
    """What rounds of one request cost by `model`, with KV catch-up for nothing: every drafter lacks the newest token
    alone. Without drafters K is 0.

    Of more requests, the equal share of one where all are alike and do the same; of a batch in which they differ it is
    an estimate.
    """
    contexts, most = foresight.contexts, max_num_speculative_tokens if foresight.drafters else 0
    gap_s = model.gap("verify").of(num_requests)
    verify_s = np.array([model.verify_s(num_requests, drafted, contexts, layout) for drafted in range(most + 1)])
    return RoundCost(
        first_context_tokens=int(contexts[0]),
        verify_s=(gap_s + verify_s) / num_requests,
        draft_s=draft_table(model, foresight, most, num_requests),
        start_s=(model.gap("prefill").of(num_requests) - gap_s) / num_requests,
    )


def draft_table(
    model: CostModel, foresight: Foresight, max_num_speculative_tokens: int, num_requests: int = 1
) -> FloatArray:
    """The `draft_s` of rounds of one request, or its share of those of more, [drafters, 2, K + 1, contexts]."""
    contexts, gap_s = foresight.contexts, model.gap("draft").of(num_requests)
    table = np.full((len(foresight.drafters), 2, max_num_speculative_tokens + 1, len(contexts)), np.inf)
    for drafter, info in enumerate(foresight.drafters):
        for by_lookup in (False, True):
            if info.copies if by_lookup else info.kind != "prompt_lookup":
                for length in range(1, max_num_speculative_tokens + 1):
                    seconds = model.draft_s(drafter, num_requests, length, contexts, by_lookup=by_lookup)
                    table[drafter, int(by_lookup), length] = (seconds + gap_s) / num_requests
    table[:, :, 0] = 0.0
    return table
