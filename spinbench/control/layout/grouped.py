"""Requests of nearly equal lengths together: a rectangle for each group instead of one for all."""

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.layout.plan import LayoutPlan, Rectangle, rectangles_plan, whole_contexts
from spinbench.control.layout.protocol import LayoutSetting
from spinbench.control.layout.search import CachedChoice, cheapest, search_law

WINDOWS_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 4096)
"""Windows that a search tries, besides one as wide as the longest context."""

Window = Annotated[int, Field(ge=0)]


class GroupedLayout:
    """Sorted by context and cut into rectangles, in none of which lengths differ by more than a window.

    The window slides from the longest context down: a group takes in all that are at most `window_tokens` shorter than
    its longest. `None` = the window that costs least for these lengths under the profile's law of rectangles.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: LayoutSetting | None = None, window_tokens: Window | None = 64) -> None:
        self._law = search_law("grouped", setting) if window_tokens is None else None
        self._window_tokens = window_tokens
        self._chosen: CachedChoice[int] = CachedChoice(self._search)

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """One rectangle a group."""
        window = self._window_tokens
        if window is None:
            window = self._chosen.of(query_tokens, key_tokens)
        return _grouped(query_tokens, key_tokens, window)

    def _search(self, query_tokens: IntArray, key_tokens: IntArray) -> int:
        longest = int(key_tokens.max())
        windows = [window for window in WINDOWS_TOKENS if window < longest] + [longest]
        assert self._law is not None
        plans = [_grouped(query_tokens, key_tokens, window) for window in windows]
        return windows[cheapest(self._law, [plan.shape for plan in plans])]


def _grouped(query_tokens: IntArray, key_tokens: IntArray, window_tokens: int) -> LayoutPlan:
    groups = window_groups(key_tokens, window_tokens)
    rectangles: list[Rectangle] = [whole_contexts(query_tokens, key_tokens, places) for places in groups]
    return rectangles_plan("grouped", query_tokens, key_tokens, rectangles)


def window_groups(lengths: IntArray, window_tokens: int) -> list[IntArray]:
    """Places of `lengths` in groups, longest first, in each of which they differ by at most `window_tokens`."""
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    bounds = [0]
    while bounds[-1] < len(order):
        bounds.append(int(np.searchsorted(falling, falling[bounds[-1]] + window_tokens, side="right")))
    return [order[start:stop] for start, stop in pairwise(bounds)]
