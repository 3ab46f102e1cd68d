"""What rounds have shown of each drafter: decayed sums, over all requests and for each request."""

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER


class Evidence:
    """Sums of what a round shows, a column for each thing; with each new round of a drafter the old ones fade."""

    def __init__(self, num_drafters: int, num_columns: int, num_requests: int, decay: float, per_request: bool) -> None:
        self._decay = decay
        self._known_powers: FloatArray = np.ones(1)
        self.shared: FloatArray = np.zeros((num_drafters, num_columns))
        """[drafters, columns]: over all requests."""
        self.own = np.zeros((num_requests, num_drafters, num_columns)) if per_request else None
        """[requests, drafters, columns], by row; None where requests are not told apart."""

    def add(self, outcome: RoundOutcome, shown: FloatArray) -> None:
        """Take in `shown` [requests, columns]. Requests without a drafter say nothing about drafters."""
        rows, drafter = outcome.rows, outcome.drafter
        drafted = drafter != NO_DRAFTER
        if not drafted.all():
            rows, drafter, shown = rows[drafted], drafter[drafted], shown[drafted]
        if self.own is not None:
            own, at = self.own.reshape(-1, self.own.shape[2]), rows * len(self.shared) + drafter
            own[at] = own[at] * self._decay + shown
        # as if they had come one after another: each is weighted by how many of its drafter come behind it
        order = drafter.argsort(kind="stable")
        counts = np.bincount(drafter, minlength=len(self.shared))
        ends, present, powers = counts.cumsum(), counts.nonzero()[0], self._powers(len(order))
        num_behind = ends.repeat(counts) - np.arange(1, len(order) + 1)
        weighted = shown[order] * powers[num_behind, None]
        self.shared *= powers[counts, None]
        if len(present):
            self.shared[present] += np.add.reduceat(weighted, (ends - counts)[present])

    def _powers(self, most: int) -> FloatArray:
        """Decay to the power of 0 to `most`, at least."""
        if len(self._known_powers) <= most:
            self._known_powers = np.power(self._decay, np.arange(2.0 * most + 1))
        return self._known_powers
