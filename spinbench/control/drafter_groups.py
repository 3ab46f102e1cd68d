"""The requests of a batch by drafter."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import IntArray


class Groups(NamedTuple):
    """Arrays that are kept from round to round, and not to be changed."""

    parts: tuple[tuple[int, IntArray], ...]
    """Drafters that have requests, and the places of these in the batch."""
    places: IntArray
    """Those of all parts in a row."""
    drafter: IntArray
    """The drafter of each of `places`."""


class DrafterGroups:
    """Puts batches in groups, anew only if the drafters are not those of the batch before: mostly they are."""

    def __init__(self, num_drafters: int, members: Sequence[int] = ()) -> None:
        """The requests of the drafter behind the last one are in the groups of all `members`."""
        self._numbers = np.arange(num_drafters + 1)
        self._members = frozenset(members)
        self._batch: bytes | None = None
        self._groups = Groups((), np.empty(0, np.int64), np.empty(0, np.int64))

    def of(self, drafter: IntArray) -> Groups:
        """Groups of a batch with these drafters; those with -1 are in none."""
        batch = drafter.tobytes()
        if batch != self._batch:
            self._batch, self._groups = batch, self._worked_out(drafter)
        return self._groups

    def of_both(self, first: IntArray, second: IntArray) -> Groups:
        """Groups of a batch whose requests have up to two drafters each; in a group, those of first ones come first."""
        numbers = np.union1d(first, second)
        parts = tuple(
            (number, np.concatenate((np.flatnonzero(first == number), np.flatnonzero(second == number))))
            for number in numbers[numbers >= 0].tolist()
        )
        places = np.concatenate([np.empty(0, np.int64), *(own for _, own in parts)])
        return Groups(parts, places, np.repeat([number for number, _ in parts], [len(own) for _, own in parts]))

    def _worked_out(self, drafter: IntArray) -> Groups:
        order = drafter.argsort(kind="stable")
        own = drafter[order]
        bounds = own.searchsorted(self._numbers).tolist()
        parts = [(number, order[start:stop]) for number, (start, stop) in enumerate(itertools.pairwise(bounds))]
        if self._members:
            joint = order[bounds[-1] :]
            parts = [(n, np.concatenate((places, joint)) if n in self._members else places) for n, places in parts]
        parts = tuple((number, places) for number, places in parts if len(places))
        if not self._members or not parts:
            inside = slice(bounds[0], bounds[-1])
            return Groups(parts, order[inside], own[inside])
        numbers, sizes = [number for number, _ in parts], [len(places) for _, places in parts]
        return Groups(parts, np.concatenate([places for _, places in parts]), np.repeat(numbers, sizes))
