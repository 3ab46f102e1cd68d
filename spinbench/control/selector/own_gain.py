"""What a draft of each source and length gains a request that thinks of itself alone."""

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.drafting.drafted_again import job_again_s, log_chance, own_again_s
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.look_ahead import Outlook

EACH = np.s_[:, None]
"""Of all sources."""


def own_gain(outlook: Outlook) -> FloatArray:
    """Tokens expected, less what the time is worth, [requests, sources, K]; -inf where nobody can draft.

    The time is an equal part of a round in which all requests have such a draft. One drafter works in it, so it is the
    same whether drafters work side by side.
    """
    prices, draft, schedule = outlook.prices, outlook.prices.draft, outlook.prices.schedule
    count, _, most = outlook.survival.shape
    steps = np.arange(1, most + 1)
    rows_s = prices.verify_s[count * steps] + count * (prices.drafting_s + prices.row_s[:, None] * steps)
    own_s = draft.own_s(EACH, steps) + (prices.missing_s * outlook.missing_share[:, None])[:, :, None]
    if outlook.guesses is None:
        drafting_s, ahead_s = draft.lane_s(EACH, steps) + count * own_s, 0.0
    else:
        own_s = count * own_again_s(outlook.guesses, own_s)
        drafting_s = job_again_s(draft.lane_s(EACH, steps), own_s, count * log_chance(outlook.guesses))
        ahead_s = np.where(outlook.guesses > 0, draft.job_of_s(EACH, count, steps + 1), 0.0)
    plain_s = schedule.round_s(0.0, float(prices.verify_s[0]))
    time_s = (schedule.round_s(drafting_s, rows_s[:, None], ahead_s) - plain_s) / count
    gain = np.cumsum(outlook.survival, axis=2) - outlook.tokens_per_s * time_s
    return np.where(outlook.drafter[:, :, None] == NO_DRAFTER, -np.inf, gain)
