"""What a round costs a request, by drafter, draft length and context, in tables that a search can index."""

from dataclasses import dataclass

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.cost_curve import Amount
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.layout.plan import LayoutKind
from spinbench.control.oracle.foresight import Foresight


@dataclass(frozen=True, eq=False)
class RoundCost:
    """Seconds of a round's parts, which `round_s` puts together, and `start_s` once per request.

    The last axis of all tables is the context length, from `first_context_tokens` on.
    """

    first_context_tokens: int
    verify_s: FloatArray
    """[K + 1, contexts], by drafted tokens: the loop's gap before the round, and the verification."""
    draft_s: FloatArray
    """[drafters, 2, K + 1, contexts], by model (0) or by lookup (1), by tokens asked for: the draft and the gap behind
    it; 0 for no token, infinite where a drafter does not draft in that way."""
    start_s: float
    """What the first round takes more: it begins with the gap behind a prefill, not behind a verification."""
    schedule: RoundSchedule = BY_TURNS
    """What runs beside what."""
    num_requests: int = 1
    """Requests of a round: all is the equal share of one."""
    ahead_s: FloatArray | None = None
    """[drafters, K + 1, contexts]: going on by a guess and so many tokens; None where nothing is drafted ahead."""
    lane_s: FloatArray | None = None
    """[drafters, K + 1, contexts]: of a model's draft, what it takes whoever is in it, not shared; None likewise."""

    @property
    def max_num_speculative_tokens(self) -> int:
        """The largest K."""
        return len(self.verify_s) - 1

    def round_s(self, draft_s: Amount, verify_s: Amount, ahead_s: Amount | float = 0.0) -> Amount:
        """Of a round with these parts. That it is linear in all of them together lets shares stand for the whole."""
        return self.schedule.round_s(draft_s, verify_s, ahead_s)


def exact_round_cost(
    model: CostModel,
    foresight: Foresight,
    max_num_speculative_tokens: int,
    layout: LayoutKind = "packed",
    num_requests: int = 1,
    schedule: RoundSchedule = BY_TURNS,
) -> RoundCost:
    """What rounds of one request cost by `model` on lanes as `schedule` has them, with KV catch-up for nothing: every
    drafter lacks the newest token alone. Without drafters K is 0.

    Of more requests, the equal share of one where all are alike and do the same; of a batch in which they differ it is
    an estimate. The terms are those of `RoundPrices`, here by each context rather than by their mean.
    """
    contexts, most = foresight.contexts, max_num_speculative_tokens if foresight.drafters else 0
    gap_s = model.gap("verify").of(num_requests)
    verify_s = np.array([model.verify_s(num_requests, drafted, contexts, layout) for drafted in range(most + 1)])
    alone, slower = schedule.overlap.target_alone, schedule.overlap.drafter_alone
    ahead_s = lane_s = None
    if schedule.drafts_ahead:
        longer_s = draft_table(model, foresight, most + 1, num_requests, slower)[:, 0]
        ahead_s = np.concatenate((np.zeros_like(longer_s[:, :1]), longer_s[:, 2:]), axis=1)
        lane_s = _lane_table(longer_s[:, :-1], draft_table(model, foresight, most, 1, slower)[:, 0], num_requests)
    return RoundCost(
        first_context_tokens=int(contexts[0]),
        verify_s=(gap_s + alone * verify_s) / num_requests,
        draft_s=draft_table(model, foresight, most, num_requests, slower),
        start_s=(model.gap("prefill").of(num_requests) - gap_s) / num_requests,
        schedule=schedule,
        num_requests=num_requests,
        ahead_s=ahead_s,
        lane_s=lane_s,
    )


def draft_table(
    model: CostModel,
    foresight: Foresight,
    max_num_speculative_tokens: int,
    num_requests: int = 1,
    slower: float = 1.0,
) -> FloatArray:
    """The `draft_s` of rounds of one request, or its share of those of more, [drafters, 2, K + 1, contexts].

    `slower` is the factor on jobs of a lane that is never quite alone on its device.
    """
    contexts, gap_s = foresight.contexts, model.gap("draft").of(num_requests)
    table = np.full((len(foresight.drafters), 2, max_num_speculative_tokens + 1, len(contexts)), np.inf)
    for drafter, info in enumerate(foresight.drafters):
        for by_lookup in (False, True):
            if info.copies if by_lookup else info.kind != "prompt_lookup":
                for length in range(1, max_num_speculative_tokens + 1):
                    seconds = model.draft_s(drafter, num_requests, length, contexts, by_lookup=by_lookup)
                    table[drafter, int(by_lookup), length] = (slower * seconds + gap_s) / num_requests
    table[:, :, 0] = 0.0
    return table


def _lane_table(shared_s: FloatArray, alone_s: FloatArray, num_requests: int) -> FloatArray:
    """Of jobs whose requests have `shared_s` each, and that take `alone_s` for a single one, what is of no request's
    own: as a straight line through the two."""
    if num_requests == 1:
        return alone_s
    with np.errstate(invalid="ignore"):  # a drafter without a model: infinite both
        lane_s = num_requests * (alone_s - shared_s) / (num_requests - 1)
    return np.where(np.isfinite(alone_s), lane_s, 0.0)
