"""Continuous batching under a KV budget: who runs, who waits, who is preempted."""

from collections import deque
from collections.abc import Sequence

from spinbench.control.kv_budget import KvBudget
from spinbench.control.request_state import RequestState


class Scheduler:
    """First come, first served; preemption by recompute takes the youngest first (as vLLM does)."""

    def __init__(self, kv_budget: KvBudget, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self._kv_budget = kv_budget
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self.waiting: deque[RequestState] = deque()
        self.running: list[RequestState] = []

    @property
    def num_outstanding(self) -> int:
        """Requests that arrived and are not finished."""
        return len(self.waiting) + len(self.running)

    def add(self, state: RequestState) -> None:
        """Queue a request. Raises UserError if it could not be served even alone."""
        self._kv_budget.check_fits(state)
        self.waiting.append(state)

    def admit(self, now_s: float, headroom_tokens: int) -> list[RequestState]:
        """Move waiting requests into the running batch and give them KV blocks; returns those to be prefilled.

        Each is admitted only if its next round of `headroom_tokens` fits as well, so that it is not preempted at once.
        One prefill takes at most `max_num_batched_tokens` tokens, or one request that is longer.
        """
        admitted: list[RequestState] = []
        num_tokens = 0
        while self.waiting and len(self.running) < self._max_num_seqs:
            state = self.waiting[0]
            if admitted and num_tokens + state.num_tokens > self._max_num_batched_tokens:
                break
            needed_tokens = min(state.num_tokens + headroom_tokens, state.max_tokens)
            if self._kv_budget.missing_blocks(state, needed_tokens) > self._kv_budget.num_free_blocks:
                break
            self._kv_budget.grow(state, needed_tokens)
            self.waiting.popleft()
            self.running.append(state)
            if state.first_scheduled_s is None:
                state.first_scheduled_s = now_s
            num_tokens += state.num_tokens
            admitted.append(state)
        return admitted

    def reserve(self, batch: Sequence[RequestState], num_tokens: Sequence[int]) -> list[RequestState]:
        """Give each request of `batch` blocks for `num_tokens`; returns those that still run, oldest first served.

        Where blocks run out the youngest running request is preempted: its KV is dropped and it waits at the front of
        the queue to be prefilled again.
        """
        for state, count in zip(batch, num_tokens, strict=True):
            while state in self.running and not self._kv_budget.grow(state, count):
                self._preempt(self.running[-1])
        return [state for state in batch if state in self.running]

    def finish(self, state: RequestState) -> None:
        """Take a finished request out and free its blocks."""
        self.running.remove(state)
        self._kv_budget.release(state)

    def _preempt(self, state: RequestState) -> None:
        self.running.remove(state)
        self._kv_budget.release(state)
        state.num_preemptions += 1
        self.waiting.appendleft(state)
