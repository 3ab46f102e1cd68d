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
    slices: tuple[slice, ...]
    """[parts] the stretch of `places` that each is."""

    @classmethod
    def of(cls, parts: Sequence[tuple[int, IntArray]]) -> "Groups":
        """These drafters with these places, none empty."""
        numbers, sizes = [number for number, _ in parts], [len(places) for _, places in parts]
        places = np.concatenate([np.empty(0, np.int64), *(places for _, places in parts)])
        return cls(tuple(parts), places, np.array(numbers, np.int64).repeat(sizes), _stretches(sizes))


def _stretches(sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True))


class DrafterGroups:
    """Puts batches in groups, anew only if the drafters are not those of the batch before: mostly they are."""

    def __init__(self, num_drafters: int, members: Sequence[int] = ()) -> None:
        """The requests of the drafter behind the last one are in the groups of all `members`."""
        self._numbers = np.arange(num_drafters + 1)
        self._members = frozenset(members)
        self._batch: bytes | None = None
        self._groups = Groups.of(())

    def of(self, drafter: IntArray) -> Groups:
        """Groups of a batch with these drafters; those with -1 are in none."""
        batch = drafter.tobytes()
        if batch != self._batch:
            self._batch, self._groups = batch, self._worked_out(drafter)
        return self._groups

    def of_both(self, first: IntArray, second: IntArray) -> Groups:
        """Groups of a batch whose requests have up to two drafters each; in a group, those of first ones come first."""
        numbers = np.union1d(first, second)
        return Groups.of(
            [
                (number, np.concatenate((np.flatnonzero(first == number), np.flatnonzero(second == number))))
                for number in numbers[numbers >= 0].tolist()
            ]
        )

    def _worked_out(self, drafter: IntArray) -> Groups:
        order = drafter.argsort(kind="stable")
        own = drafter[order]
        bounds = own.searchsorted(self._numbers).tolist()
        parts = [(number, order[start:stop]) for number, (start, stop) in enumerate(itertools.pairwise(bounds))]
        if self._members:
            joint = order[bounds[-1] :]
            parts = [(n, np.concatenate((places, joint)) if n in self._members else places) for n, places in parts]
        parts = [(number, places) for number, places in parts if len(places)]
        if self._members:
            return Groups.of(parts)
        inside = slice(bounds[0], bounds[-1])
        return Groups(tuple(parts), order[inside], own[inside], _stretches([len(places) for _, places in parts]))
