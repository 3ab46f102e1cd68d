"""A request that the server has accepted: its tokens, its KV blocks, and how far each model has followed it."""

from dataclasses import dataclass

import numpy as np

from spinbench.control.ngram_index import NgramIndex
from spinbench.workload.request import Request


@dataclass(frozen=True, slots=True)
class LastRound:
    """What the previous round of a request did."""

    drafter: int | None
    drafted: int
    accepted: int
    confidence: float | None
    """Mean top-1 probability of the drafter over the drafted tokens; `None` where it was not measured."""


class RequestState:
    """Mutable state of one served request. Between rounds the target's KV holds all tokens but the newest."""

    def __init__(
        self, request: Request, prompt_token_ids: tuple[int, ...], arrival_s: float, num_drafters: int, block_size: int
    ) -> None:
        self.request = request
        self.arrival_s = arrival_s
        self.num_prompt_tokens = len(prompt_token_ids)
        self._token_ids = np.empty(self.num_prompt_tokens + request.max_new_tokens, np.int64)
        self._token_ids[: self.num_prompt_tokens] = prompt_token_ids
        self.num_tokens = self.num_prompt_tokens
        self.block_size = block_size
        self.blocks: list[int] = []
        num_blocks = -(-len(self._token_ids) // block_size)
        self._slots = np.empty(num_blocks * block_size, np.int64)
        self.slots_contiguous = True
        self.drafter_kv_tokens = [0] * num_drafters
        self.ngrams = NgramIndex(prompt_token_ids)
        self.last_round: LastRound | None = None
        self.num_rounds = 0
        self.num_preemptions = 0
        self.num_prefill_emitted_tokens = 0
        self.first_scheduled_s: float | None = None
        self.first_token_s: float | None = None

    @property
    def num_output_tokens(self) -> int:
        """Tokens emitted so far."""
        return self.num_tokens - self.num_prompt_tokens

    @property
    def remaining_tokens(self) -> int:
        """Tokens that may still be emitted."""
        return self.request.max_new_tokens - self.num_output_tokens

    @property
    def max_tokens(self) -> int:
        """Prompt and output tokens at the most."""
        return len(self._token_ids)

    def token_ids(self, start: int, stop: int) -> np.ndarray:
        """Tokens at positions `start` to `stop`, a view of int64 [stop - start]."""
        return self._token_ids[start:stop]

    def slots(self, start: int, stop: int) -> np.ndarray:
        """KV pool slots of positions `start` to `stop`, a view of int64 [stop - start]."""
        return self._slots[start:stop]

    def output_token_ids(self) -> tuple[int, ...]:
        """All tokens emitted so far."""
        return tuple(self._token_ids[self.num_prompt_tokens : self.num_tokens].tolist())

    def append(self, token_ids: list[int]) -> None:
        """Add emitted tokens."""
        end = self.num_tokens + len(token_ids)
        self._token_ids[self.num_tokens : end] = token_ids
        self.num_tokens = end
        self.ngrams.extend(token_ids)

    def add_blocks(self, blocks: list[int]) -> None:
        """Take over KV blocks that were allocated for this request."""
        size = self.block_size
        for block in blocks:
            if self.blocks and block != self.blocks[-1] + 1:
                self.slots_contiguous = False
            start = len(self.blocks) * size
            self._slots[start : start + size] = np.arange(block * size, (block + 1) * size)
            self.blocks.append(block)

    def drop_kv(self) -> list[int]:
        """Forget all KV (preemption, or the end) and return the blocks to be freed."""
        blocks, self.blocks = self.blocks, []
        self.slots_contiguous = True
        self.drafter_kv_tokens = [0] * len(self.drafter_kv_tokens)
        return blocks
