"""Worth and seconds of drafts by request, source and length: the terms that a plan for a batch is put together from."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.costs.round_prices import RoundPrices
from spinbench.control.drafting.drafted_again import job_again_s, log_chance, own_again_s


class Spent(NamedTuple):
    """Seconds when the first 0, 1, .. of some drafted tokens are taken, [tokens + 1] each.

    Where nothing overlaps, without what is in the drafts' worth.
    """

    drafting_s: FloatArray
    verify_s: FloatArray
    round_s: FloatArray


@dataclass(frozen=True, slots=True)
class DraftTerms:
    """Each array [requests, sources, K].

    Where nothing overlaps every second counts, so that a request's part of drafting and verification can be taken off
    the worth of its draft, and all that is left to add up are jobs, steps and rows. Else what a token adds to the round
    depends on the others.
    """

    survival: FloatArray
    """Tokens expected of each place of a draft."""
    prices: RoundPrices
    guesses: FloatArray | None
    own_s: FloatArray
    """Seconds that each token of a request adds to its drafter's job."""
    log_guesses: FloatArray | None
    """What it adds to the logarithm of the chance that what is drafted ahead is the next draft."""
    paid: FloatArray
    """Worth of drafts by their length, drafters' jobs and steps and rows of the verification not yet paid; where lanes
    overlap, nothing is but what is sure to be."""
    ranks: tuple[tuple[FloatArray, FloatArray], ...]
    """What drafts are compared by, and seconds that a row costs beside it at the least and most; each gives a plan."""

    @classmethod
    def of(
        cls,
        survival: FloatArray,
        prices: RoundPrices,
        tokens_per_s: float,
        missing_share: FloatArray,
        guesses: FloatArray | None,
    ) -> "DraftTerms":
        """With time worth `tokens_per_s`; the other arguments are those of `BatchChoice`."""
        draft, slopes_s, log_guesses = prices.draft, prices.row_slopes_s, None
        own_s = np.empty_like(survival)
        own_s[:] = draft.step_request_s[:, None]
        own_s[:, :, 0] += draft.request_s + prices.missing_s * missing_share[:, None]
        gain = survival - tokens_per_s * prices.row_s[:, None, None]
        gain[:, :, 0] -= tokens_per_s * prices.drafting_s
        if guesses is not None:
            own_s = np.diff(own_again_s(guesses, np.cumsum(own_s, axis=2)), axis=2, prepend=0.0)
            log_guesses = np.diff(log_chance(guesses), axis=2, prepend=0.0)
        charged = np.cumsum(gain - tokens_per_s * own_s, axis=2)
        if prices.schedule.is_sum:
            return cls(survival, prices, guesses, own_s, log_guesses, charged, ((charged, slopes_s),))
        # a request's share of its drafter's time costs nothing unless that drafter is the slowest, nor its rows if the
        # target waits for the drafters: ranked all ways
        paid = free = np.cumsum(gain, axis=2)
        ranks = (charged, slopes_s), (free, slopes_s)
        if prices.schedule.hides_drafting:
            paid = np.cumsum(survival, axis=2)
            ranks = *ranks, (np.cumsum(survival - tokens_per_s * own_s, axis=2), np.zeros(1))
        return cls(survival, prices, guesses, own_s, log_guesses, paid, ranks)

    def spent(self, order: IntArray, source: IntArray, most: int) -> Spent:
        """Of the tokens of `order`, taken one by one: places in [drafts, `most`], of which draft i is of request
        i % requests and from `source` [drafts]; those behind the first ones are second drafts.
        """
        prices, schedule = self.prices, self.prices.schedule
        place, depth = np.divmod(order, most)
        by, request = source[place], place % len(self.survival)
        verify_s = prices.verify_s[: len(order) + 1]
        drafting_s, ahead_s = np.zeros((2, len(order) + 1))
        for used in set(source.tolist()):
            mine = by == used
            steps = np.maximum.accumulate(np.where(mine, depth + 1, 0))
            lane_s = prices.draft.lane_s(used, steps)
            if not schedule.is_sum:
                own_s = np.cumsum(np.where(mine, self.own_s[request, used, depth], 0.0))
                if self.guesses is not None and self.log_guesses is not None:
                    further_s = self._ahead_s(used, depth, mine & (self.guesses[request, used, depth] > 0))
                    ahead_s[1:] = schedule.together_s(ahead_s[1:], further_s)
                    all_right = np.cumsum(np.where(mine, self.log_guesses[request, used, depth], 0.0))
                    lane_s = job_again_s(lane_s, own_s, all_right)
                else:
                    lane_s = lane_s + own_s
            drafting_s[1:] = schedule.together_s(drafting_s[1:], lane_s)
        if schedule.is_sum:
            return Spent(drafting_s, verify_s, verify_s + drafting_s)
        # what a request pays for having any draft it pays for its first one
        first = (depth == 0) & (place < len(self.survival))
        verify_s = verify_s + np.append(0.0, np.cumsum(prices.row_s[request] + first * prices.drafting_s))
        return Spent(drafting_s, verify_s, schedule.round_s(drafting_s, verify_s, ahead_s))

    def _ahead_s(self, source: int, depth: IntArray, goes_on: IntArray) -> FloatArray:
        """Of the job that goes on behind this source's drafts, each by a guess and as many tokens as it has."""
        draft = self.prices.draft
        steps = np.maximum.accumulate(np.where(goes_on, depth + 2, 0))
        once_s = np.where(depth == 0, draft.request_s[source] + draft.step_request_s[source], 0.0)
        own_s = np.cumsum(np.where(goes_on, once_s + draft.step_request_s[source], 0.0))
        return draft.lane_s(source, steps) + own_s
