"""What rounds have shown of each drafter: decayed sums, over all requests and for each request."""

import numpy as np

from spinbench.control.arrays import FloatArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER


class Evidence:
    """Sums of what a round shows, a column for each thing; with each new round of a drafter the old ones fade."""

    def __init__(self, num_drafters: int, num_columns: int, num_requests: int, decay: float, per_request: bool) -> None:
        self._decay = decay
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
            self.own[rows, drafter] = self.own[rows, drafter] * self._decay + shown
        # as if they had come one after another: each is weighted by how many of its drafter come behind it
        order = np.argsort(drafter, kind="stable")
        by_drafter, places = drafter[order], np.arange(len(order))
        counts = np.bincount(drafter, minlength=len(self.shared))
        weights = np.zeros((len(counts), len(order)))
        weights[by_drafter, places] = self._decay ** (np.cumsum(counts)[by_drafter] - 1 - places)
        self.shared *= (self._decay**counts)[:, None]
        self.shared += weights @ shown[order]
