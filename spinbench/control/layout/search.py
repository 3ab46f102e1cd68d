"""Searching a layout's parameters for the least predicted cost, once for each kind of batch."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleAttention, RectangleShape
from spinbench.control.layout.plan import LayoutKind
from spinbench.control.layout.protocol import LayoutSetting
from spinbench.errors import UserError
from spinbench.recently_used import RecentlyUsed

LENGTH_STEP_TOKENS = 32
"""Batches whose lengths are equal up to this are searched once."""
MAX_KEPT = 4096
"""Batches whose choice is kept."""

Choice = TypeVar("Choice")


class CachedChoice(Generic[Choice]):
    """A choice by the lengths of a batch: a pure function of the lengths rounded up, so that it can be kept."""

    def __init__(self, search: Callable[[IntArray, IntArray], Choice]) -> None:
        self._search = search
        self._kept: RecentlyUsed[Choice] = RecentlyUsed(MAX_KEPT)
        self.num_searches = 0

    def of(self, query_tokens: IntArray, key_tokens: IntArray) -> Choice:
        """What `search` says to the batch's lengths, sorted and rounded up to `LENGTH_STEP_TOKENS`."""
        rounded = -(-np.sort(key_tokens) // LENGTH_STEP_TOKENS) * LENGTH_STEP_TOKENS
        width = int(query_tokens.max())
        return self._kept.get((rounded.tobytes(), width), lambda: self._searched(rounded, width))

    def _searched(self, rounded: IntArray, width: int) -> Choice:
        self.num_searches += 1
        return self._search(np.full_like(rounded, width), rounded)


def search_law(layout: LayoutKind, setting: LayoutSetting | None) -> RectangleAttention:
    """What rectangles cost in this layout. Raises UserError where nothing says so."""
    law = setting.attention.get(layout) if setting is not None else None
    if law is None:
        raise UserError(
            f"verification={layout} searches by measured cost where a key is null, and no profile has this layout: set "
            f"engine.profile to one that was made with layouts=[packed,padded,{layout}], or give the key a value"
        )
    return law


def cheapest(law: RectangleAttention, shapes: Sequence[RectangleShape]) -> int:
    """The first of the shapes that cost least."""
    columns = RectangleShape(*np.array(shapes, float).T)
    return int(np.argmin(law.of(columns)))
