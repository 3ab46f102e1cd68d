"""What rounds have shown of each drafter: decayed sums, over all requests and for each request."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER


class Evidence:
    """Sums of what a round shows, a column for each thing; with each new round of a drafter the old ones fade."""

    def __init__(self, num_drafters: int, num_columns: int, num_requests: int, decay: float, per_request: bool) -> None:
        self._decay = decay
        self._known_powers: FloatArray = np.ones(1)
        self._ordinals: IntArray = np.ones(1, np.int64)
        """1, 2 and so on, as many as there are known powers."""
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
        # as if they had come one after another: each is weighted by how many of its drafter come behind it
        order = drafter.argsort(kind="stable")
        counts = np.bincount(drafter, minlength=len(self.shared))
        ends, present, powers = np.add.accumulate(counts), counts.nonzero()[0], self._powers(len(order))
        num_behind = ends.repeat(counts) - self._ordinals[: len(order)]
        weighted = shown.take(order, axis=0) * powers[num_behind][:, None]
        self.shared *= powers[counts][:, None]
        if len(present):
            self.shared[present] += np.add.reduceat(weighted, (ends - counts)[present])

    def _powers(self, most: int) -> FloatArray:
        """Decay to the power of 0 to `most`, at least."""
        if len(self._known_powers) <= most:
            self._known_powers = np.power(self._decay, np.arange(2.0 * most + 1))
            self._ordinals = np.arange(1, 2 * most + 2)
        return self._known_powers
