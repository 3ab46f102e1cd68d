"""Continuous batching under a KV budget: who runs, who waits, who is preempted."""

from collections import deque
from math import isnan

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.kv_budget import KvBudget
from spinbench.control.request_table import IDLE, RequestTable


class Scheduler:
    """First come, first served; preemption by recompute takes the youngest first (as vLLM does)."""

    def __init__(
        self, table: RequestTable, kv_budget: KvBudget, max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        self._table = table
        self._kv_budget = kv_budget
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self.waiting: deque[int] = deque()
        self.running: list[int] = []
        self._running_rows: IntArray | None = None
        self._all_run: BoolArray = np.ones(max_num_seqs, np.bool_)
        self._all_run.flags.writeable = False

    @property
    def running_rows(self) -> IntArray:
        """Those running, as an array, which is not to be changed."""
        if self._running_rows is None:
            self._running_rows = np.array(self.running, np.int64)
        return self._running_rows

    @property
    def num_outstanding(self) -> int:
        """Requests that arrived and are not finished."""
        return len(self.waiting) + len(self.running)

    def add(self, row: int) -> None:
        """Queue a request. Raises UserError if it could not be served even alone."""
        self._kv_budget.check_fits(row)
        self.waiting.append(row)

    def admit(self, now_s: float, headroom_tokens: int) -> list[int]:
        """Move waiting requests into the running batch and give them KV blocks; returns those to be prefilled.

        Each is admitted only if its next round of `headroom_tokens` fits as well, so that it is not preempted at once.
        One prefill takes at most `max_num_batched_tokens` tokens, or one request that is longer.
        """
        table = self._table
        admitted: list[int] = []
        batched_tokens = 0
        while self.waiting and len(self.running) < self._max_num_seqs:
            row = self.waiting[0]
            num_tokens = int(table.num_tokens[row])
            if admitted and batched_tokens + num_tokens > self._max_num_batched_tokens:
                break
            if not self._kv_budget.grow(row, min(num_tokens + headroom_tokens, self._kv_budget.most_tokens(row))):
                break
            self.waiting.popleft()
            self.running.append(row)
            if isnan(table.first_scheduled_s[row]):
                table.first_scheduled_s[row] = now_s
            batched_tokens += num_tokens
            admitted.append(row)
        if admitted:
            self._running_rows = None
        return admitted

    def reserve(self, rows: IntArray, num_tokens: IntArray) -> tuple[BoolArray, list[int]]:
        """Give each request of a batch blocks for its `num_tokens`.

        Where blocks run out the youngest running request that is idle is preempted: its KV is dropped and it waits at
        the front of the queue to be prefilled again. Those in a round or a prefill need theirs, and are left alone; if
        there is nobody else, it is one of `rows` itself. Returns which of `rows` still run, bool [requests], and who
        was preempted.
        """
        if (given := self._kv_budget.grow_first(rows, num_tokens)) == len(rows):
            return self._all_run[: len(rows)], []
        lacking, lacked, preempted = rows, num_tokens, list[int]()
        while given < len(lacking):
            lacking, lacked = lacking[given:], lacked[given:]
            preempted.append(self._preempt())
            left = lacking != preempted[-1]
            lacking, lacked = lacking[left], lacked[left]
            given = self._kv_budget.grow_first(lacking, lacked)
        # few were, so that each is looked for by itself
        return np.logical_and.reduce([rows != row for row in preempted]), preempted

    def reserve_if_free(self, rows: IntArray, num_tokens: IntArray) -> BoolArray:
        """Give requests blocks for their `num_tokens` as far as there are free ones; which have them, bool [requests].

        The first come first.
        """
        given = self._kv_budget.grow_first(rows, num_tokens)
        has_blocks = np.ones(len(rows), np.bool_)
        # behind the first that got none there may be some that need fewer, or none
        pairs = zip(rows[given:].tolist(), num_tokens[given:].tolist(), strict=True)
        has_blocks[given:] = [self._kv_budget.grow(row, count) for row, count in pairs]
        return has_blocks

    def finish(self, row: int) -> None:
        """Take a finished request out and free its blocks."""
        self.running.remove(row)
        self._running_rows = None
        self._kv_budget.release(row)

    def _preempt(self) -> int:
        youngest_first = reversed(range(len(self.running)))
        row = self.running.pop(next(at for at in youngest_first if self._table.in_round[self.running[at]] == IDLE))
        self._running_rows = None
        self._kv_budget.release(row)
        self._table.num_preemptions[row] += 1
        self.waiting.appendleft(row)
        return row
