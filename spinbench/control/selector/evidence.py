"""What rounds have shown of each drafter: decayed sums, over all requests and for each request."""

from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER


class _Fading(NamedTuple):
    """How a batch fades: as if its requests had come one after another, and each made those before it fade."""

    order: IntArray
    """The requests, drafter by drafter."""
    weight: FloatArray
    """[requests, 1], in that order: by how many of its drafter come behind it."""
    of_old: FloatArray
    """[drafters, 1]: weight of what was before."""
    present: IntArray
    """Drafters of the batch."""
    first: IntArray
    """Where in `order` each of them begins."""


class Evidence:
    """Sums of what a round shows, a column for each thing; with each new round of a drafter the old ones fade."""

    def __init__(self, num_drafters: int, num_columns: int, num_requests: int, decay: float, per_request: bool) -> None:
        self._decay = decay
        self._known_powers: FloatArray = np.ones(1)
        self._known_fading: tuple[bytes, _Fading] | None = None
        """Of the last batch, by its drafters."""
        self.shared: FloatArray = np.zeros((num_drafters, num_columns))
        """[drafters, columns]: over all requests."""
        self.own = np.zeros((num_requests, num_drafters, num_columns)) if per_request else None
        """[requests, drafters, columns], by row; None where requests are not told apart."""
        self._flat_own = None if self.own is None else self.own.reshape(-1, num_columns)

    def add(self, outcome: RoundOutcome, shown: FloatArray) -> None:
        """Take in `shown` [requests, columns]. Requests without a drafter say nothing about drafters."""
        rows, drafter = outcome.rows, outcome.drafter
        drafted = drafter != NO_DRAFTER
        if np.count_nonzero(drafted) < len(drafted):
            rows, drafter, shown = rows[drafted], drafter[drafted], shown[drafted]
        if self._flat_own is not None:
            at = rows * len(self.shared) + drafter
            self._flat_own[at] = self._flat_own.take(at, axis=0) * self._decay + shown
        batch = self._fading_of(drafter)
        weighted = shown.take(batch.order, axis=0) * batch.weight
        self.shared *= batch.of_old
        if len(batch.present):
            self.shared[batch.present] += np.add.reduceat(weighted, batch.first)

    def _fading_of(self, drafter: IntArray) -> "_Fading":
        """For a batch with these drafters; worked out anew only if they are not those of the batch before."""
        batch = drafter.tobytes()
        if self._known_fading is None or self._known_fading[0] != batch:
            order = drafter.argsort(kind="stable")
            counts = np.bincount(drafter, minlength=len(self.shared))
            ends, present, powers = np.add.accumulate(counts), counts.nonzero()[0], self._powers(len(order))
            num_behind = ends.repeat(counts) - np.arange(1, len(order) + 1)
            weight, of_old = powers[num_behind][:, None], powers[counts][:, None]
            self._known_fading = batch, _Fading(order, weight, of_old, present, (ends - counts)[present])
        return self._known_fading[1]

    def _powers(self, most: int) -> FloatArray:
        """Decay to the power of 0 to `most`, at least."""
        if len(self._known_powers) <= most:
            self._known_powers = np.power(self._decay, np.arange(2.0 * most + 1))
        return self._known_powers
