"""What time and tokens are worth to a run, as it goes: tokens per second by batch size, and tokens by context."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.costs.round_schedule import RoundSchedule

PRIOR_ROUNDS = 4.0
"""Weight of plain decoding, in rounds, before a batch size was seen."""
MEMORY_ROUNDS = 200.0
PRIOR_TOKENS = 20.0
"""Weight of "as everywhere" in what a token is worth, in tokens."""
MEMORY_TOKENS = 10_000.0
TINY_S = 1e-9


class RunGoodput:
    """Tokens per second of rounds with so many requests, decayed sums that begin with plain decoding."""

    def __init__(self, max_num_seqs: int, schedule: RoundSchedule) -> None:
        self._schedule = schedule
        self._sums = np.zeros((max_num_seqs + 1, 2))
        """Tokens, seconds."""

    def tokens_per_s(self, count: int, plain_round_s: float) -> float:
        """The price of a second of a round with `count` requests."""
        tokens, seconds = self._sums[count].tolist()
        return (tokens + PRIOR_ROUNDS * count) / (seconds + PRIOR_ROUNDS * max(plain_round_s, TINY_S))

    def observe(self, outcome: RoundOutcome) -> None:
        """Add a round."""
        count = len(outcome.rows)
        self._sums[count] *= 1 - 1 / MEMORY_ROUNDS
        self._sums[count] += int(outcome.accepted.sum()) + count, self._schedule.measured_s(outcome)


class TokenWorth:
    """What an accepted token is worth, by the cell that it stands in: 1 is a token of average cost.

    Emitting a token now saves what it would have cost later. Where copies come true that is little, since the next
    round would have got it by the way; where nothing helps it is a round. So a cell's worth is the time its tokens cost
    x the run's goodput, which averages 1. It stands for the difference of relative values of average-reward decision
    processes (Puterman 1994, 8.4): all rewards with the same total, only their places differ.
    """

    def __init__(self, num_cells: int, schedule: RoundSchedule) -> None:
        self._schedule = schedule
        self._sums = np.zeros((num_cells, 2))
        """Seconds, tokens."""

    def of(self, cells: IntArray, tokens_per_s: float) -> FloatArray:
        """Worth in tokens of a token in each of these cells."""
        seconds = self._sums[:, 0] + PRIOR_TOKENS / tokens_per_s
        return (tokens_per_s * seconds / (self._sums[:, 1] + PRIOR_TOKENS))[cells]

    def observe(self, outcome: RoundOutcome, cells: IntArray, drafting_s: float, row_s: float) -> None:
        """Charge each request's cell, [requests], an equal share of the round and the rows of its own draft."""
        count = len(outcome.rows)
        own_s = outcome.drafted_nodes * row_s + (outcome.drafted > 0) * drafting_s
        cost_s = (self._schedule.measured_s(outcome) - own_s.sum()) / count + own_s
        self._sums *= max(0.0, 1 - count / MEMORY_TOKENS)
        np.add.at(self._sums, cells, np.stack((cost_s, outcome.accepted + 1.0), 1))
