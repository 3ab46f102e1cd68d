"""Whether each request learns for itself, or all learn together."""

import numpy as np

from spinbench.control.arrays import IntArray


class Learners:
    """Numbers the bandits of a run: one for each request, or a single one that sees the rounds of all."""

    def __init__(self, num_requests: int, per_request: bool) -> None:
        self._per_request = per_request
        self.count = num_requests if per_request else 1

    def of(self, rows: IntArray) -> IntArray:
        """The bandit of each request, int [requests]; for use with `np.add.at` where several may have the same."""
        return rows if self._per_request else np.zeros_like(rows)
