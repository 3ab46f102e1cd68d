"""Where an answer ends."""

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.jobs.result import VerifyResult
from spinbench.control.request_table import RequestTable


class EndTokens:
    """The tokens that end a request, unless it ignores them."""

    def __init__(self, token_ids: frozenset[int], table: RequestTable) -> None:
        self._token_ids = token_ids
        self._table = table

    def cut(self, rows: IntArray, result: VerifyResult) -> IntArray:
        """Tokens that count of each request's emitted ones: up to the end token, if one is among them."""
        ends = self._at(rows, result.token_ids)
        if ends is None:
            return result.num_emitted
        ends &= np.arange(result.token_ids.shape[1]) < result.num_emitted[:, None]
        return np.where(ends.any(1), ends.argmax(1) + 1, result.num_emitted)

    def at_last(self, rows: IntArray, token_ids: IntArray, counts: IntArray) -> BoolArray | None:
        """Whether the last of each request's first `counts` tokens, of [requests, width], ends it; None = nowhere."""
        ends = self._at(rows, token_ids)
        return None if ends is None else ends[np.arange(len(rows)), counts - 1]

    def _at(self, rows: IntArray, token_ids: IntArray) -> BoolArray | None:
        """Whether each token, [requests, width], ends its request; None where none does, which is nearly always."""
        ends: BoolArray | None = None
        for eos in self._token_ids:
            here = token_ids == eos
            ends = here if ends is None else ends | here
        if ends is None or not ends.any():
            return None
        ends[self._table.ignores_eos[rows]] = False
        return ends
