"""The state of every request of a run: one row each, in arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.workload.request import Request

NO_DRAFTER = -1
"""Stands for plain decoding in arrays of drafters."""
IDLE = -1
"""Stands for no round in `RequestTable.in_round`."""
IN_PREFILL = -2
"""The same for a request whose prefill is under way."""


class RequestTable:
    """Mutable columns; a request keeps its row for life.

    Between rounds the target's KV holds all of a request's tokens but the newest. Arrays, because a round handles all
    its requests at once: the cost of a decision must not grow with every token.
    """

    def __init__(self, requests: Sequence[Request], num_prompt_tokens: Mapping[str, int], num_drafters: int) -> None:
        count = len(requests)
        self.requests = tuple(requests)
        self.row_of = {request.id: row for row, request in enumerate(requests)}
        self.num_prompt_tokens = np.array([num_prompt_tokens[request.id] for request in requests], np.int64)
        self.max_new_tokens = np.array([request.max_new_tokens for request in requests], np.int64)
        self.ignores_eos = np.array([request.ignore_eos for request in requests], np.bool_)
        self.categories = tuple(sorted({request.category for request in requests if request.category is not None}))
        codes = {category: code for code, category in enumerate(self.categories)}
        self.category = np.array([codes.get(request.category or "", -1) for request in requests], np.int64)
        """Index into `categories`, -1 = none."""
        self.num_tokens = self.num_prompt_tokens.copy()
        self.max_tokens = self.num_prompt_tokens + self.max_new_tokens
        self.num_blocks = np.zeros(count, np.int64)
        self.drafter_kv_tokens = np.zeros((count, num_drafters), np.int64)
        """[requests, drafters]: tokens whose KV each drafter holds: what was computed, for the text as it is."""
        self.queued_kv_tokens = np.zeros((count, num_drafters), np.int64)
        """[requests, drafters]: the same once the catch-ups that wait on the drafter's lane are done; 0 = none was."""
        self._ever_queued = False
        self.num_kv_drops = np.zeros(count, np.int64)
        """How often a request lost its KV: what a job of before computed holds no more."""
        self.in_round = np.full(count, IDLE, np.int64)
        """Index of the round that each request is in now, or `IDLE`, or `IN_PREFILL`."""
        self.last_round = np.full(count, IDLE, np.int64)
        """Index of the last round that each request was in, -1 = none yet."""
        self.num_rounds = np.zeros(count, np.int64)
        self.last_drafter = np.full(count, NO_DRAFTER, np.int64)
        self.last_model_drafter = np.full(count, NO_DRAFTER, np.int64)
        """The last drafter whose model drafted for the request."""
        self.last_drafted = np.zeros(count, np.int64)
        self.last_accepted = np.zeros(count, np.int64)
        self.last_confidence = np.full(count, np.nan)
        """Mean top-1 probability of the last draft, NaN where it was not measured."""
        self.num_preemptions = np.zeros(count, np.int64)
        self.num_prefill_emitted_tokens = np.zeros(count, np.int64)
        self.arrival_s = np.full(count, np.nan)
        self.first_scheduled_s = np.full(count, np.nan)
        self.first_token_s = np.full(count, np.nan)

    def __len__(self) -> int:
        """Requests of the run."""
        return len(self.requests)

    def num_output_tokens(self, rows: IntArray) -> IntArray:
        """Tokens emitted so far."""
        return self.num_tokens[rows] - self.num_prompt_tokens[rows]

    def remaining_tokens(self, rows: IntArray) -> IntArray:
        """Tokens that may still be emitted."""
        return self.max_tokens[rows] - self.num_tokens[rows]

    def planned_kv_tokens(self, rows: IntArray, drafter: IntArray | int | slice) -> IntArray:
        """Tokens whose KV a drafter holds when it comes to a job submitted now: its lane keeps the order."""
        held = self.drafter_kv_tokens[rows, drafter]
        return np.maximum(held, self.queued_kv_tokens[rows, drafter]) if self._ever_queued else held

    def queue_kv(self, rows: IntArray, drafter: int, stop: IntArray) -> None:
        """Note that a catch-up to `stop` waits on the drafter's lane."""
        self.queued_kv_tokens[rows, drafter] = stop
        self._ever_queued = True

    def drop_kv(self, row: int) -> int:
        """Forget a request's KV (preemption, or the end); returns the blocks that it held."""
        blocks = int(self.num_blocks[row])
        self.num_blocks[row] = 0
        self.drafter_kv_tokens[row] = self.queued_kv_tokens[row] = 0
        self.num_kv_drops[row] += 1
        return blocks
