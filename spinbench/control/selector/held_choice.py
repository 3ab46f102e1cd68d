"""Choices that are kept for a number of rounds, since each switch costs KV catch-up."""

from collections.abc import Callable

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.request_table import NO_DRAFTER


class HeldChoice:
    """The drafter of each request; a new one is due every `rounds_per_choice` rounds of the request."""

    def __init__(self, num_requests: int, rounds_per_choice: int) -> None:
        self._rounds_per_choice = rounds_per_choice
        self._current = np.full(num_requests, NO_DRAFTER, np.int64)

    def choose(self, context: RoundContext, pick: Callable[[IntArray], IntArray]) -> IntArray:
        """Each request's drafter, int [requests]; `pick` gives those of the rows for which one is due."""
        held = self._current[context.rows]
        due = context.rows[(context.num_rounds % self._rounds_per_choice == 0) | (held == NO_DRAFTER)]
        if not len(due):
            return held
        self._current[due] = pick(due)
        return self._current[context.rows]
