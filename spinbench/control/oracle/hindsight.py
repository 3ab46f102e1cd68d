"""The best that one drafter and one K can do: for the whole run, or for each request its own."""

from dataclasses import dataclass

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.round_cost import RoundCost
from spinbench.control.request_table import NO_DRAFTER


@dataclass(frozen=True, eq=False)
class FixedSettings:
    """Every pair of a drafter and a K, and plain decoding first, under the rules of the oracle (catch-up is free)."""

    drafter: IntArray
    """[settings]: -1 = plain decoding."""
    num_speculative_tokens: IntArray
    """[settings]"""
    time_s: FloatArray
    """[settings, rows]: seconds from a request's first token to its last."""

    @property
    def best(self) -> int:
        """The setting whose time over all requests is least: the first such one."""
        return int(self.time_s.sum(1).argmin())

    @property
    def best_per_request(self) -> IntArray:
        """The same for each request alone, [rows]: the ceiling of all that choose once per request."""
        return self.time_s.argmin(0)


def fixed_settings(foresight: Foresight, cost: RoundCost) -> FixedSettings:
    """Times of all fixed settings, K from 1 to the largest of `cost`, for requests served one at a time."""
    lengths = range(1, cost.max_num_speculative_tokens + 1)
    pairs = [(NO_DRAFTER, 0), *((drafter, k) for drafter in range(len(foresight.drafters)) for k in lengths)]
    drafter, num_speculative_tokens = np.array(pairs, np.int64).T
    time_s = np.array([_fixed_s(foresight, cost, *pair) for pair in pairs])
    return FixedSettings(drafter, num_speculative_tokens, time_s)


def _fixed_s(foresight: Foresight, cost: RoundCost, drafter: int, num_speculative_tokens: int) -> FloatArray:
    """Seconds of each request, [rows], walking along all texts at once."""
    streams = foresight.streams
    rows = np.flatnonzero(streams.num_tokens > 1)
    emitted = np.ones(len(rows), np.int64)
    time_s = np.zeros(len(streams.num_tokens))
    time_s[rows] = cost.start_s
    while len(rows):
        context = foresight.num_prompt_tokens[rows] + emitted - cost.first_context_tokens
        # as the serving loop does: no more than could be emitted if the text went on to its limit
        asked = np.minimum(num_speculative_tokens, foresight.max_new_tokens[rows] - emitted - 1)
        accepted = drafted = np.zeros(len(rows), np.int64)
        if drafter != NO_DRAFTER:
            run, by_lookup = foresight.of_drafter(drafter, rows, emitted)
            drafted = np.where(by_lookup & ~foresight.finds(drafter, rows, emitted), 0, asked)
            accepted = np.minimum(run, drafted)
            time_s[rows] += cost.draft_s[drafter, by_lookup.astype(np.int64), asked, context]
        time_s[rows] += cost.verify_s[drafted, context]
        emitted = emitted + accepted + 1
        goes_on = emitted < streams.num_tokens[rows]
        rows, emitted = rows[goes_on], emitted[goes_on]
    return time_s
