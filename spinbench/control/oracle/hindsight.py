"""What every drafter with a fixed K would have taken, request by request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.drafted_again import mean_drafted_again
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


def fixed_settings(foresight: Foresight, costs: Sequence[RoundCost]) -> tuple[FixedSettings, ...]:
    """Times of all fixed settings by each of the `costs`, which are of the same K and the same pipeline.

    K is from 1 to the largest. Exact for requests served one at a time where each round begins when the one before is
    verified. With drafts made ahead it is so but for the host's gaps, if a model drafts in every round and each text
    ends at its limit; a batch is taken for one of requests that are alike.
    """
    lengths = range(1, costs[0].max_num_speculative_tokens + 1)
    pairs = [(NO_DRAFTER, 0), *((drafter, k) for drafter in range(len(foresight.drafters)) for k in lengths)]
    drafter, num_speculative_tokens = np.array(pairs, np.int64).T
    time_s = np.array([_fixed_s(foresight, costs, *pair) for pair in pairs])  # [settings, costs, rows]
    return tuple(FixedSettings(drafter, num_speculative_tokens, own_s) for own_s in time_s.swapaxes(0, 1))


class _Rounds(NamedTuple):
    """The next round of each request that goes on: arrays [n]."""

    rows: IntArray
    context_tokens: IntArray
    is_ready: BoolArray
    """The draft was made ahead."""
    asked: IntArray
    by_lookup: IntArray
    drafted: IntArray
    num_ahead: IntArray
    """Tokens drafted behind a guess while it is verified."""


def _fixed_s(foresight: Foresight, costs: Sequence[RoundCost], drafter: int, num_speculative_tokens: int) -> FloatArray:
    """Seconds of each request by each cost, [costs, rows]."""
    streams = foresight.streams
    time_s = np.zeros((len(costs), len(streams.num_tokens)))
    lane_s = np.zeros_like(time_s)
    time_s[:, streams.num_tokens > 1] = np.array([cost.start_s for cost in costs])[:, None]
    num_drafts = num_ready = 0
    for rounds in _walk(foresight, drafter, num_speculative_tokens, costs[0].schedule.drafts_ahead):
        makes = ~rounds.is_ready & (rounds.asked > 0)
        num_drafts += np.count_nonzero(rounds.asked)
        num_ready += np.count_nonzero(rounds.is_ready)
        for place, cost in enumerate(costs):
            time_s[place, rounds.rows] += _rounds_s(cost, drafter, rounds)
            if cost.lane_s is not None and drafter != NO_DRAFTER:
                context = rounds.context_tokens - cost.first_context_tokens
                own_s = cost.lane_s[drafter, rounds.asked, context]
                lane_s[place, rounds.rows] += np.where(makes & (rounds.by_lookup == 0), own_s, 0.0)
    for place, cost in enumerate(costs):
        # a job that is made although some drafts are there has fewer to share it
        sharing = mean_drafted_again(num_ready / max(1, num_drafts), cost.num_requests)
        time_s[place] += (1 / sharing - 1 / cost.num_requests) * lane_s[place]
    return time_s


def _rounds_s(cost: RoundCost, drafter: int, rounds: _Rounds) -> FloatArray:
    """Seconds of each of these rounds, [n], in which all requests share what they draft together."""
    context = rounds.context_tokens - cost.first_context_tokens
    verify_s = cost.verify_s[rounds.drafted, context]
    if drafter == NO_DRAFTER:
        return cost.round_s(np.zeros(len(context)), verify_s)
    draft_s = np.where(rounds.is_ready, 0.0, cost.draft_s[drafter, rounds.by_lookup, rounds.asked, context])
    if cost.ahead_s is None:
        return cost.round_s(draft_s, verify_s)
    behind = np.minimum(context + rounds.drafted, cost.ahead_s.shape[2] - 1)
    return cost.round_s(draft_s, verify_s, cost.ahead_s[drafter, rounds.num_ahead, behind])


def _walk(foresight: Foresight, drafter: int, num_speculative_tokens: int, drafts_ahead: bool) -> Iterator[_Rounds]:
    """All rounds under a fixed setting, walking along all texts at once."""
    streams = foresight.streams
    goes_ahead = drafts_ahead and drafter != NO_DRAFTER and foresight.drafters[drafter].has_kv_cache
    rows = np.flatnonzero(streams.num_tokens > 1)
    emitted, ready = np.ones(len(rows), np.int64), np.zeros(len(rows), np.int64)
    while len(rows):
        left, is_ready = foresight.max_new_tokens[rows] - emitted, ready > 0
        # as the serving loop does: no more than could be emitted if the text went on to its limit
        asked = np.where(is_ready, ready, np.minimum(num_speculative_tokens, left - 1))
        run = drafted = by_lookup = ahead = np.zeros(len(rows), np.int64)
        if drafter != NO_DRAFTER:
            run, copied = foresight.of_drafter(drafter, rows, emitted, is_ready)
            drafted = np.where(copied & ~foresight.finds(drafter, rows, emitted), 0, asked)
            by_lookup = copied.astype(np.int64)
        if goes_ahead:  # as `DraftAhead` does: the last token of an answer is never drafted
            ahead = np.where(
                (by_lookup == 0) & (drafted > 0), np.maximum(np.minimum(drafted, left - drafted - 2), 0), 0
            )
        yield _Rounds(rows, foresight.num_prompt_tokens[rows] + emitted, is_ready, asked, by_lookup, drafted, ahead)
        accepted = np.minimum(run, drafted)
        # a guess is right where the drafter would have been so by one token more
        ready = np.where((accepted == drafted) & (run > drafted), ahead, 0)
        emitted = emitted + accepted + 1
        goes_on = emitted < streams.num_tokens[rows]
        rows, emitted, ready = rows[goes_on], emitted[goes_on], ready[goes_on]
