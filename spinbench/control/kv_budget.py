"""The KV cache as a budget of blocks: who holds which, and which are free.

Target and drafters share one numbering: slot s of a request is slot s in every model's pool, so one block covers a
stretch of the request in all of them and one budget decides for all.
"""

from collections.abc import Iterable

import numpy as np

from spinbench.control.request_state import RequestState
from spinbench.errors import UserError


def blocks_for(num_tokens: int, block_size: int) -> int:
    """Blocks that `num_tokens` tokens take."""
    return -(-num_tokens // block_size)


def blocks_for_longest(max_tokens: Iterable[int], max_num_seqs: int, block_size: int) -> int:
    """Blocks with which the `max_num_seqs` longest requests fit side by side, so that nothing is ever preempted.

    `max_tokens` are the requests' longest possible lengths, prompt and answer.
    """
    return sum(sorted((blocks_for(tokens, block_size) for tokens in max_tokens), reverse=True)[:max_num_seqs])


def check_request_fits(request_id: str, max_tokens: int, num_blocks: int, block_size: int) -> None:
    """Raise UserError if a request of at most `max_tokens` tokens could not be served even alone."""
    need = blocks_for(max_tokens, block_size)
    if need > num_blocks:
        raise UserError(
            f"request {request_id!r} may need {need} KV blocks ({max_tokens} tokens) and the pool has "
            f"{num_blocks} of {block_size} tokens; raise kv.num_blocks or lower its max_new_tokens"
        )


class KvBudget:
    """Allocates KV blocks, next to each other where it can.

    A request whose blocks are consecutive can be read as one stretch of memory, without a gather. So each request gets
    a *home*: room for its longest possible length, which others use only when nothing else is free.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise UserError(f"the KV pool has {num_blocks} blocks of {block_size} tokens; both must be at least 1")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = np.ones(num_blocks, bool)
        self._homeless = np.ones(num_blocks, bool)
        self._homes: dict[str, tuple[int, int]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return int(np.count_nonzero(self._free))

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens take."""
        return blocks_for(num_tokens, self.block_size)

    def check_fits(self, state: RequestState) -> None:
        """Raise UserError if this request could not be served even alone."""
        check_request_fits(state.request.id, state.max_tokens, self.num_blocks, self.block_size)

    def missing_blocks(self, state: RequestState, num_tokens: int) -> int:
        """Blocks to be added before `state` can hold `num_tokens` tokens."""
        return max(0, self.blocks_for(num_tokens) - len(state.blocks))

    def grow(self, state: RequestState, num_tokens: int) -> bool:
        """Give `state` blocks for `num_tokens` tokens; False, and nothing changed, if too few are free."""
        need = self.missing_blocks(state, num_tokens)
        if need == 0:
            return True
        if need > self.num_free_blocks:
            return False
        if not state.blocks:
            self._find_home(state)
        state.add_blocks(self._take(state, need))
        return True

    def release(self, state: RequestState) -> None:
        """Free all blocks of `state`."""
        self._free[state.drop_kv()] = True
        home = self._homes.pop(state.request.id, None)
        if home is not None:
            self._homeless[home[0] : home[1]] = True

    def _find_home(self, state: RequestState) -> None:
        length = self.blocks_for(state.max_tokens)
        room = np.flatnonzero(np.diff(np.concatenate(([0], self._free & self._homeless, [0]))))
        for start, stop in room.reshape(-1, 2):
            if stop - start >= length:
                self._homes[state.request.id] = (int(start), int(start) + length)
                self._homeless[start : start + length] = False
                return

    def _take(self, state: RequestState, count: int) -> list[int]:
        start, stop = self._homes.get(state.request.id, (0, 0))
        at_home = start + np.flatnonzero(self._free[start:stop])
        homeless = np.flatnonzero(self._free & self._homeless)
        anywhere = np.flatnonzero(self._free)
        # dict keys: each block once, in order of preference
        blocks = list(dict.fromkeys(np.concatenate((at_home, homeless, anywhere)).tolist()))[:count]
        self._free[blocks] = False
        return blocks
