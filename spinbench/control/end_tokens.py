"""Where an answer ends."""

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.job import VerifyResult
from spinbench.control.request_table import RequestTable


class EndTokens:
    """The tokens that end a request, unless it ignores them."""

    def __init__(self, token_ids: frozenset[int], table: RequestTable) -> None:
        self._token_ids = token_ids
        self._table = table

    def at(self, rows: IntArray, token_ids: IntArray) -> BoolArray:
        """Whether each token, [requests, width], ends its request."""
        ends = np.zeros(token_ids.shape, np.bool_)
        for eos in self._token_ids:
            ends |= token_ids == eos
        ends[self._table.ignores_eos[rows]] = False
        return ends

    def cut(self, rows: IntArray, result: VerifyResult) -> IntArray:
        """Tokens that count of each request's emitted ones: up to the end token, if one is among them."""
        ends = self.at(rows, result.token_ids)
        ends &= np.arange(result.token_ids.shape[1]) < result.num_emitted[:, None]
        return np.where(ends.any(1), ends.argmax(1) + 1, result.num_emitted)
