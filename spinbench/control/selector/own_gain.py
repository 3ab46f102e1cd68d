"""What a draft of each source and length gains a request that thinks of itself alone."""

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.look_ahead import Outlook


def own_gain(outlook: Outlook) -> FloatArray:
    """Tokens expected, less what the time is worth, [requests, sources, K]; -inf where nobody can draft.

    The time is an equal part of a round in which all requests have such a draft. One drafter works in it, so it is the
    same whether drafters work side by side.
    """
    prices, draft, schedule = outlook.prices, outlook.prices.draft, outlook.prices.schedule
    count, _, most = outlook.survival.shape
    steps = np.arange(1, most + 1)
    rows_s = prices.verify_s[count * steps] + count * (prices.drafting_s + prices.row_s[:, None] * steps)
    lane_s = draft.job_s[:, None] + draft.step_s[:, None] * steps  # [sources, K]: of a job, whoever is in it
    own_s = draft.request_s[:, None] + draft.step_request_s[:, None] * steps
    missing_s = (prices.missing_s * outlook.missing_share[:, None])[:, :, None]
    if outlook.guesses is None:
        drafting_s, ahead_s = lane_s + count * (own_s + missing_s), 0.0
    else:
        # each is drafted for again only where its guess is wrong, and there is no job where all are right
        wrong = 1 - outlook.guesses
        drafting_s = (1 - outlook.guesses**count) * lane_s + count * wrong * (own_s + missing_s)
        ahead_s = lane_s + draft.step_s[:, None] + count * (own_s + draft.step_request_s[:, None])
        ahead_s = np.where(outlook.guesses > 0, ahead_s, 0.0)
    plain_s = schedule.round_s(0.0, float(prices.verify_s[0]))
    time_s = (schedule.round_s(drafting_s, rows_s[:, None], ahead_s) - plain_s) / count
    gain = np.cumsum(outlook.survival, axis=2) - outlook.tokens_per_s * time_s
    return np.where(outlook.drafter[:, :, None] == NO_DRAFTER, -np.inf, gain)
