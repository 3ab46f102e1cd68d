"""Where each request's tokens lie in the KV pools: the memory behind the blocks that the scheduler counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spinbench.control.arrays import IntArray


class Slots(Protocol):
    """Says where requests lie."""

    def slots(self, row: int, start: int, stop: int) -> IntArray:
        """Pool slots of positions `start` to `stop`, int [stop - start]."""
        ...

    def first_slot(self, row: int) -> int:
        """Where the request begins if its slots are consecutive, else -1."""
        ...


@dataclass(frozen=True, slots=True)
class HeldSlots:
    """Where some requests lay at a time, however they go on: a job of theirs may outlive them.

    Such a job may write into slots that have another owner by then. No harm comes of it, as all jobs of a model are on
    one lane: what the new owner reads there, its own jobs wrote later.
    """

    of_row: Mapping[int, tuple[IntArray, int]]
    """Slots of all positions, and the first one or -1."""

    def slots(self, row: int, start: int, stop: int) -> IntArray:
        """As they were."""
        return self.of_row[row][0][start:stop]

    def first_slot(self, row: int) -> int:
        """As it was."""
        return self.of_row[row][1]


class SlotTable:
    """Places requests in the pool, in one stretch where it can; every model's pool has the same numbering.

    A request in consecutive slots can be read as a view, without a gather. So each gets a *home*: room for its longest
    possible length, which others use only when nothing else is free.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_slots = num_blocks * block_size
        self.block_size = block_size
        self._free = np.ones(num_blocks, bool)
        self._homeless = np.ones(num_blocks, bool)
        self._homes: dict[int, tuple[int, int]] = {}
        self._blocks: dict[int, list[int]] = {}
        self._slots: dict[int, IntArray] = {}
        self._first_slot: dict[int, int] = {}

    def hold(self, row: int, num_tokens: int, max_tokens: int) -> None:
        """See that a request has slots for `num_tokens` tokens; it will never need more than for `max_tokens`."""
        blocks = self._blocks.setdefault(row, [])
        need = -(-num_tokens // self.block_size) - len(blocks)
        if need <= 0:
            return
        size = self.block_size
        if not blocks:
            self._find_home(row, -(-max_tokens // size))
            self._slots[row] = np.empty(-(-max_tokens // size) * size, np.int64)
        slots = self._slots[row]
        for block in self._take(row, need):
            start = len(blocks) * size
            slots[start : start + size] = np.arange(block * size, (block + 1) * size)
            blocks.append(block)
        in_one_stretch = all(block == blocks[0] + place for place, block in enumerate(blocks))
        self._first_slot[row] = blocks[0] * size if in_one_stretch else -1

    def slots(self, row: int, start: int, stop: int) -> IntArray:
        """Pool slots of positions `start` to `stop`, a view of int [stop - start]."""
        return self._slots[row][start:stop]

    def first_slot(self, row: int) -> int:
        """Where the request begins if its slots are consecutive, else -1."""
        return self._first_slot[row]

    def held(self, rows: Iterable[int]) -> HeldSlots:
        """Where these requests lie now; what they are given later is not told."""
        return HeldSlots({row: (self._slots[row], self._first_slot[row]) for row in rows})

    def release(self, row: int) -> None:
        """Free a request's slots."""
        self._free[self._blocks.pop(row, [])] = True
        self._slots.pop(row, None)
        self._first_slot.pop(row, None)
        home = self._homes.pop(row, None)
        if home is not None:
            self._homeless[home[0] : home[1]] = True

    def clear(self) -> None:
        """Free everything."""
        for row in list(self._blocks):
            self.release(row)

    def _find_home(self, row: int, length: int) -> None:
        room = np.flatnonzero(np.diff(np.concatenate(([0], self._free & self._homeless, [0]))))
        for start, stop in room.reshape(-1, 2):
            if stop - start >= length:
                self._homes[row] = (int(start), int(start) + length)
                self._homeless[start : start + length] = False
                return

    def _take(self, row: int, count: int) -> list[int]:
        start, stop = self._homes.get(row, (0, 0))
        at_home = start + np.flatnonzero(self._free[start:stop])
        homeless = np.flatnonzero(self._free & self._homeless)
        anywhere = np.flatnonzero(self._free)
        # dict keys: each block once, in order of preference
        blocks = list(dict.fromkeys(np.concatenate((at_home, homeless, anywhere)).tolist()))[:count]
        if len(blocks) < count:
            raise RuntimeError(f"{count} KV blocks are needed and {len(blocks)} are free: the scheduler lost count")
        self._free[blocks] = False
        return blocks
