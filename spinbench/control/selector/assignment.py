"""Who has which drafter, and how many each drafter has."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.request_table import NO_DRAFTER


class Assignment:
    """A drafter for some of a run's requests; each keeps its place with it until it is freed."""

    def __init__(self, num_requests: int, num_drafters: int) -> None:
        self._of = np.full(num_requests, NO_DRAFTER, np.int64)
        self.num_held: IntArray = np.zeros(num_drafters, np.int64)
        """Requests of each drafter."""
        self._given: list[IntArray] = []
        """Who was given one since they were taken from all: few, where a run has many requests."""

    def __len__(self) -> int:
        """Requests that have a drafter."""
        return sum(self.num_held.tolist())

    def of(self, rows: IntArray) -> IntArray:
        """Drafter of each of these requests, -1 = none."""
        return self._of[rows]

    def num_held_by(self, rows: IntArray) -> IntArray:
        """How many of these requests each drafter has, int [drafters]."""
        held = self._of[rows]
        return np.bincount(held[held != NO_DRAFTER], minlength=len(self.num_held))

    def others_than(self, rows: IntArray) -> IntArray:
        """The requests beside these that have a drafter, in the order of rows."""
        own = self._of[rows]
        if np.count_nonzero(own != NO_DRAFTER) == len(self):
            return rows[:0]  # so it is mostly
        self._of[rows] = NO_DRAFTER
        given = np.concatenate(self._given)
        others = given[self._of[given] != NO_DRAFTER]
        self._of[rows] = own
        return np.unique(others)

    def give(self, rows: IntArray, drafters: IntArray) -> None:
        """Give requests that have none a drafter each."""
        self._of[rows] = drafters
        self._given.append(rows)
        self.num_held += np.bincount(drafters, minlength=len(self.num_held))

    def free(self, rows: IntArray) -> None:
        """Take from requests what they have, if anything."""
        self.num_held -= self.num_held_by(rows)
        self._of[rows] = NO_DRAFTER

    def clear(self) -> None:
        """Take from all what they have."""
        for rows in self._given:
            self._of[rows] = NO_DRAFTER
        self._given.clear()
        self.num_held.fill(0)
