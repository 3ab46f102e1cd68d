"""What rounds have shown of each drafter: decayed sums, over all requests and for each request."""

from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.drafting.drafter_groups import Groups


class _Fading(NamedTuple):
    """How a batch fades: as if its requests had come one after another, and each made those before it fade."""

    groups: Groups
    present: IntArray
    """[parts] drafters of the batch."""
    first: IntArray
    """[parts] where each begins in `groups.places`."""
    weight: FloatArray
    """[places, 1]: by how many of its drafter come behind it."""
    of_old: FloatArray
    """[parts, 1]: weight of what was before."""


class Evidence:
    """Sums of what a round shows, a column for each thing; with each new round of a drafter the old ones fade."""

    def __init__(self, num_drafters: int, num_columns: int, num_requests: int, decay: float, per_request: bool) -> None:
        self._decay = decay
        self._known_powers: FloatArray = np.ones(1)
        self._fading = self._fading_of(Groups.of(()))
        """Of the last batch."""
        self.shared: FloatArray = np.zeros((num_drafters, num_columns))
        """[drafters, columns]: over all requests."""
        self.own = np.zeros((num_requests, num_drafters, num_columns)) if per_request else None
        """[requests, drafters, columns], by row; None where requests are not told apart."""
        self._flat_own = None if self.own is None else self.own.reshape(-1, num_columns)

    def add(self, groups: Groups, rows: IntArray, shown: FloatArray) -> None:
        """Take in `shown` [requests, columns] of a batch, its requests by drafter and their rows in the run's table.

        Requests without a drafter say nothing about drafters.
        """
        if groups is not self._fading.groups:
            self._fading = self._fading_of(groups)
        if not groups.parts:
            return
        _, present, first, weight, of_old = self._fading
        shown = shown.take(groups.places, axis=0)
        if self._flat_own is not None:
            at = rows[groups.places] * len(self.shared) + groups.drafter
            own = self._flat_own.take(at, axis=0)
            own *= self._decay
            own += shown
            self._flat_own[at] = own
        shown *= weight
        shared = self.shared.take(present, axis=0) * of_old
        shared += np.add.reduceat(shown, first)
        self.shared[present] = shared

    def _fading_of(self, groups: Groups) -> "_Fading":
        """For a batch with these groups; they stay while its drafters do, and this with them."""
        present = np.array([number for number, _ in groups.parts], np.int64)
        sizes = np.array([len(own) for _, own in groups.parts], np.int64)
        ends = np.add.accumulate(sizes)
        powers, places = self._powers(len(groups.places)), np.arange(1, len(groups.places) + 1)
        weight = powers[ends.repeat(sizes) - places]
        return _Fading(groups, present, ends - sizes, weight[:, None], powers[sizes][:, None])

    def _powers(self, most: int) -> FloatArray:
        """Decay to the power of 0 to `most`, at least."""
        if len(self._known_powers) <= most:
            self._known_powers = np.power(self._decay, np.arange(2.0 * most + 1))
        return self._known_powers
