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
        self._coming = np.full(num_requests, NO_DRAFTER, np.int64)
        """Picked ahead of their time, -1 = not."""

    def choose(self, context: RoundContext, pick: Callable[[IntArray], IntArray]) -> IntArray:
        """Each request's drafter, int [requests]; `pick` gives those of the rows for which one is due."""
        due = self.due(context)
        if not len(due):
            return self._current[context.rows]
        picked = self._coming[due]
        unknown = picked == NO_DRAFTER
        if unknown.any():
            picked[unknown] = pick(due[unknown])
        self._current[due] = picked
        self._coming[due] = NO_DRAFTER
        return self._current[context.rows]

    def due(self, context: RoundContext) -> IntArray:
        """The rows for which a new drafter is due in this round."""
        begins = context.num_rounds % self._rounds_per_choice == 0
        return context.rows[begins | (self._current[context.rows] == NO_DRAFTER)]

    def choose_next(self, context: RoundContext, pick: Callable[[IntArray], IntArray]) -> IntArray:
        """Each request's drafter in the round behind this one; picked now, and kept, where one will be due then."""
        drafters = self._current[context.rows]
        due = (context.num_rounds + 1) % self._rounds_per_choice == 0
        if due.any():
            picked = self._coming[context.rows[due]] = pick(context.rows[due])
            drafters[due] = picked
        return drafters
