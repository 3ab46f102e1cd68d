"""The KV cache as a budget of blocks: how many each request holds, and how many are free.

Target and drafters share one numbering: slot s of a request is slot s in every model's pool, so one block covers a
stretch of the request in all of them and one budget decides for all. Where a block lies is the body's business.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.request_table import RequestTable
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
    """Counts the blocks that requests hold; the counts themselves are a column of the table."""

    def __init__(self, table: RequestTable, num_blocks: int, block_size: int, branch_tokens: int = 0) -> None:
        """`branch_tokens`: what a request may need beyond its longest text, for branches of drafted trees."""
        if num_blocks < 1 or block_size < 1:
            raise UserError(f"the KV pool has {num_blocks} blocks of {block_size} tokens; both must be at least 1")
        self.num_blocks = num_blocks
        self.num_free_blocks = num_blocks
        self._table = table
        self._block_size = block_size
        self._branch_tokens = branch_tokens

    def check_fits(self, row: int) -> None:
        """Raise UserError if this request could not be served even alone."""
        request_id = self._table.requests[row].id
        check_request_fits(request_id, self.most_tokens(row), self.num_blocks, self._block_size)

    def most_tokens(self, row: int) -> int:
        """Slots that a request can ever need."""
        return int(self._table.max_tokens[row]) + self._branch_tokens

    def grow(self, row: int, num_tokens: int) -> bool:
        """Give a request blocks for `num_tokens` tokens; False, and nothing changed, if too few are free."""
        need = max(0, blocks_for(num_tokens, self._block_size) - int(self._table.num_blocks[row]))
        if need > self.num_free_blocks:
            return False
        self._table.num_blocks[row] += need
        self.num_free_blocks -= need
        return True

    def grow_first(self, rows: IntArray, num_tokens: IntArray) -> int:
        """Give requests blocks for their `num_tokens`, in their order, up to the first for which too few are free.

        Returns how many have theirs.
        """
        held = self._table.num_blocks[rows]
        need = np.maximum((num_tokens + (self._block_size - 1)) // self._block_size, held)
        further = (need - held).tolist()
        total, count = sum(further), len(rows)
        if total > self.num_free_blocks:
            in_all = list(accumulate(further))
            count = bisect_right(in_all, self.num_free_blocks)
            if not count:
                return 0
            rows, need, total = rows[:count], need[:count], in_all[count - 1]
        if total:
            self._table.num_blocks[rows] = need
            self.num_free_blocks -= total
        return count

    def release(self, row: int) -> None:
        """Free all blocks of a request."""
        self.num_free_blocks += self._table.drop_kv(row)
