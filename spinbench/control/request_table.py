"""The state of every request of a run: one row each, in arrays."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.workload.request import Request

NO_DRAFTER = -1
"""Stands for plain decoding in arrays of drafters."""
IDLE = -1
"""Stands for no round in `RequestTable.in_round`."""
IN_PREFILL = -2
"""The same for a request whose prefill is under way."""


class RowCounts(NamedTuple):
    """Columns of the table that are read together, so that it is done at once."""

    num_prompt_tokens: IntArray
    num_tokens: IntArray
    max_tokens: IntArray
    category: IntArray
    num_rounds: IntArray
    last_drafter: IntArray
    last_drafted: IntArray
    last_accepted: IntArray


class RequestTable:
    """Mutable columns; a request keeps its row for life.

    Between rounds the target's KV holds all of a request's tokens but the newest. Arrays, because a round handles all
    its requests at once: the cost of a decision must not grow with every token.
    """

    def __init__(self, requests: Sequence[Request], num_prompt_tokens: Mapping[str, int], num_drafters: int) -> None:
        count = len(requests)
        self.requests = tuple(requests)
        self.row_of = {request.id: row for row, request in enumerate(requests)}
        self._read_together = np.zeros((len(RowCounts._fields), count), np.int64)
        own = RowCounts(*self._read_together)
        self.num_prompt_tokens = own.num_prompt_tokens
        self.num_prompt_tokens[:] = [num_prompt_tokens[request.id] for request in requests]
        self.max_new_tokens = np.array([request.max_new_tokens for request in requests], np.int64)
        self.ignores_eos = np.array([request.ignore_eos for request in requests], np.bool_)
        self.categories = tuple(sorted({request.category for request in requests if request.category is not None}))
        codes = {category: code for code, category in enumerate(self.categories)}
        self.category = own.category
        """Index into `categories`, -1 = none."""
        self.category[:] = [codes.get(request.category or "", -1) for request in requests]
        self.num_tokens, self.max_tokens = own.num_tokens, own.max_tokens
        self.num_tokens[:] = self.num_prompt_tokens
        self.max_tokens[:] = self.num_prompt_tokens + self.max_new_tokens
        self.num_blocks = np.zeros(count, np.int64)
        self.drafter_kv_tokens = np.zeros((count, num_drafters), np.int64)
        """[requests, drafters]: tokens whose KV each drafter holds: what was computed, for the text as it is."""
        self.queued_kv_tokens = np.zeros((count, num_drafters), np.int64)
        """[requests, drafters]: the same once the catch-ups that wait on the drafter's lane are done; 0 = none was."""
        self._ever_queued = False
        self._first_kv_place = np.arange(count) * num_drafters
        """[requests]: where each one's row of these begins, all rows behind each other."""
        self.num_kv_drops = np.zeros(count, np.int64)
        """How often a request lost its KV: what a job of before computed holds no more."""
        self.in_round = np.full(count, IDLE, np.int64)
        """Index of the round that each request is in now, or `IDLE`, or `IN_PREFILL`."""
        self.last_round = np.full(count, IDLE, np.int64)
        """Index of the last round that each request was in, -1 = none yet."""
        self.num_rounds = own.num_rounds
        self.last_drafter = own.last_drafter
        self.last_drafter.fill(NO_DRAFTER)
        self.last_model_drafter = np.full(count, NO_DRAFTER, np.int64)
        """The last drafter whose model drafted for the request."""
        self.last_drafted, self.last_accepted = own.last_drafted, own.last_accepted
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

    def read(self, rows: IntArray) -> "RowCounts":
        """What decisions look at in every round, as it is now, int [requests] each."""
        return RowCounts(*self._read_together.take(rows, axis=1))

    def num_output_tokens(self, rows: IntArray) -> IntArray:
        """Tokens emitted so far."""
        return self.num_tokens[rows] - self.num_prompt_tokens[rows]

    def remaining_tokens(self, rows: IntArray) -> IntArray:
        """Tokens that may still be emitted."""
        return self.max_tokens[rows] - self.num_tokens[rows]

    def planned_kv_tokens(self, rows: IntArray, drafter: IntArray | int) -> IntArray:
        """Tokens whose KV a drafter holds when it comes to a job submitted now: its lane keeps the order."""
        at = self._first_kv_place[rows] + drafter
        held = self.drafter_kv_tokens.take(at)
        return np.maximum(held, self.queued_kv_tokens.take(at)) if self._ever_queued else held

    def planned_kv_tokens_of_all(self, rows: IntArray) -> IntArray:
        """The same of every drafter, int [requests, drafters]."""
        held = self.drafter_kv_tokens.take(rows, axis=0)
        return np.maximum(held, self.queued_kv_tokens.take(rows, axis=0)) if self._ever_queued else held

    def hold_kv(self, rows: IntArray, drafter: IntArray | int, num_tokens: IntArray) -> None:
        """Note that a drafter, each request's own or one of all, holds the KV of so many tokens."""
        self.drafter_kv_tokens.put(self._first_kv_place[rows] + drafter, num_tokens)

    def queue_kv(self, rows: IntArray, drafter: int, stop: IntArray | int) -> None:
        """Note that a catch-up to `stop` waits on the drafter's lane; 0 = none that could be counted on."""
        self.queued_kv_tokens[rows, drafter] = stop
        self._ever_queued = True

    def drop_kv(self, row: int) -> int:
        """Forget a request's KV (preemption, or the end); returns the blocks that it held."""
        blocks = int(self.num_blocks[row])
        self.num_blocks[row] = 0
        self.drafter_kv_tokens[row] = self.queued_kv_tokens[row] = 0
        self.num_kv_drops[row] += 1
        return blocks
