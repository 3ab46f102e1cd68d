"""Request decomposition (SPIN, arXiv 2503.15921): contexts cut into pieces, so that ragged ones fill a rectangle.

Each piece is a row with a copy of its request's query rows. What attention gives for a piece is its rows' maximum,
numerator and denominator of the softmax; those of one request's pieces are merged, exactly up to rounding.
"""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleShape
from spinbench.control.layout.grouped import window_groups
from spinbench.control.layout.plan import LayoutPlan, Rectangle, rectangles_plan
from spinbench.control.layout.protocol import LayoutSetting
from spinbench.control.layout.search import CachedChoice, cheapest, search_law
from spinbench.errors import UserError

MAX_PIECES = 32
"""Pieces of the longest context that a search tries."""
FEW_PIECES = 4
"""Pieces of every other context that a search tries to fill exactly."""
WINDOWS_TOKENS = (32, 128, 512)
"""Windows for the rests of unequal pieces that a search tries, besides one as wide as the longest rest."""
KEYS_OF_A_QUERY = 16
"""A query row's copy, result and part in the merge take no more memory than so many keys with their values, where at
most eight query heads of 64 or more dimensions share a key head (`layout_memory.peak_bytes`)."""

Width = Annotated[int, Field(ge=1)]
Window = Annotated[int, Field(ge=0)]


class Cut(NamedTuple):
    """How a batch is decomposed."""

    width: int
    """Longest piece, in tokens."""
    window_tokens: int
    """Of unequal pieces, how much rests in one rectangle may differ."""


class DecomposedLayout:
    """Contexts cut into pieces of one width, or of one width and a rest.

    - `width`: tokens of a piece. `None` = the width that costs least for these lengths under the profile's law of
      rectangles, merge included, and takes no more memory than the padded layout would; padding to the longest
      context is always among the candidates.
    - `pieces`: `equal`: one rectangle, in which a request's last piece is padded to the width. `unequal`: what is left
      of a context behind its whole pieces is a shorter piece, and rests of similar length make rectangles of their own.
    - `window_tokens`: how much the rests of one rectangle may differ; `None` = searched together with the width.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: LayoutSetting | None = None,
        width: Width | None = None,
        pieces: Literal["equal", "unequal"] = "equal",
        window_tokens: Window | None = None,
    ) -> None:
        self._equal = pieces == "equal"
        if self._equal and window_tokens is not None:
            raise UserError(
                f"verification.window_tokens is {window_tokens} and pieces are equal; only unequal ones have rests "
                "to group: set it to null"
            )
        searched = width is None or (window_tokens is None and not self._equal)
        self._law = search_law("decomposed", setting) if searched else None
        self._width, self._window_tokens = width, window_tokens
        self._chosen: CachedChoice[Cut] = CachedChoice(self._search)

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """One rectangle of equal pieces, or one of whole pieces and some of rests."""
        if self._law is not None:
            cut = self._chosen.of(query_tokens, key_tokens)
        else:
            cut = Cut(self._width or 0, self._window_tokens or 0)
        plan = self._cut(query_tokens, key_tokens, cut)
        if self._width is None and not _is_allowed(plan, _padded_keys(key_tokens)):
            # the search rounded lengths up
            longest = int(key_tokens.max())
            return self._cut(query_tokens, key_tokens, Cut(longest + 1, longest))
        return plan

    def _cut(self, query_tokens: IntArray, key_tokens: IntArray, cut: Cut) -> LayoutPlan:
        if self._equal:
            return equal_pieces(query_tokens, key_tokens, min(cut.width, int(key_tokens.max())))
        return unequal_pieces(query_tokens, key_tokens, cut)

    def _search(self, query_tokens: IntArray, key_tokens: IntArray) -> Cut:
        assert self._law is not None
        longest, padded_keys = int(key_tokens.max()), _padded_keys(key_tokens)
        if self._equal:
            widths = _widths(key_tokens, MAX_PIECES, FEW_PIECES)
            shapes = equal_shapes(int(query_tokens.max()), key_tokens, widths)
            memory_keys = shapes.num_keys + KEYS_OF_A_QUERY * shapes.num_rows
            allowed = (memory_keys <= padded_keys) | (widths == longest)
            return Cut(int(widths[np.argmin(np.where(allowed, self._law.of(shapes), np.inf))]), 0)
        widths = [self._width] if self._width is not None else _few_widths(key_tokens)
        windows = [self._window_tokens] if self._window_tokens is not None else [*WINDOWS_TOKENS, longest]
        cuts = [Cut(width, window) for width in widths for window in windows]
        plans = [unequal_pieces(query_tokens, key_tokens, cut) for cut in cuts]
        if self._width is None:
            allowed = [place for place, plan in enumerate(plans) if _is_allowed(plan, padded_keys)]
            cuts, plans = [cuts[place] for place in allowed], [plans[place] for place in allowed]
        return cuts[cheapest(self._law, [plan.shape for plan in plans])]


def equal_pieces(query_tokens: IntArray, key_tokens: IntArray, width: int) -> LayoutPlan:
    """Request i in ceil(length_i / width) pieces, all in one rectangle."""
    pieces = -(-key_tokens // width)
    rectangle = _pieces(query_tokens, key_tokens, pieces, width)
    return rectangles_plan("decomposed", query_tokens, key_tokens, [rectangle])


def unequal_pieces(query_tokens: IntArray, key_tokens: IntArray, cut: Cut) -> LayoutPlan:
    """Request i in floor(length_i / width) whole pieces and a rest, the rests in groups of similar length."""
    whole = key_tokens // cut.width
    rest = key_tokens - whole * cut.width
    rectangles = []
    if whole.any():
        rectangles.append(_pieces(query_tokens, key_tokens, whole, cut.width))
    with_rest = np.flatnonzero(rest)
    rows = int(query_tokens.max())
    for group in window_groups(rest[with_rest], cut.window_tokens) if len(with_rest) else ():
        places = with_rest[group]
        first, keys = whole[places] * cut.width, rest[places]
        rectangles.append(Rectangle(places, first, keys, rows, int(keys.max())))
    return rectangles_plan("decomposed", query_tokens, key_tokens, rectangles)


def equal_shapes(query_rows: int, key_tokens: IntArray, widths: IntArray) -> RectangleShape:
    """Of one rectangle of equal pieces, an entry for each width."""
    by_request = -(-key_tokens // widths[:, None])  # [widths, requests]
    pieces = by_request.sum(1)
    in_several = np.where(by_request > 1, by_request, 0).sum(1)
    return RectangleShape(
        num_rectangles=np.ones_like(pieces),
        num_pieces=pieces,
        num_rows=pieces * query_rows,
        num_keys=pieces * widths,
        num_cells=pieces * widths * query_rows,
        num_merges=(in_several > 0).astype(np.int64),
        num_merged_rows=in_several * query_rows,
    )


def memory_keys(plan: LayoutPlan) -> int:
    """Most memory that the plan's attention takes, counted in keys (with their values) of one layer."""
    return plan.peak_key_tokens + KEYS_OF_A_QUERY * plan.query_tokens


def _padded_keys(key_tokens: IntArray) -> int:
    """Keys of the padded layout's rectangle."""
    return len(key_tokens) * int(key_tokens.max())


def _is_allowed(plan: LayoutPlan, padded_keys: int) -> bool:
    """Whether a plan takes no more memory than the padded layout: it is that, or smaller with all its copies."""
    whole = not plan.merged_query_tokens and plan.peak_key_tokens <= padded_keys
    return whole or memory_keys(plan) <= padded_keys


def _pieces(query_tokens: IntArray, key_tokens: IntArray, num_pieces: IntArray, width: int) -> Rectangle:
    """The first `num_pieces` pieces of each request's context, in the order of the batch."""
    places = np.repeat(np.arange(len(num_pieces)), num_pieces)
    before = np.cumsum(num_pieces) - num_pieces
    first_key = (np.arange(len(places)) - before[places]) * width
    num_keys = np.minimum(width, key_tokens[places] - first_key)
    return Rectangle(places, first_key, num_keys, int(query_tokens.max()), width)


def _widths(key_tokens: IntArray, most_pieces: int, few_pieces: int) -> IntArray:
    """Widths that fill some context exactly: the best one does. The longest context whole is the first."""
    longest = -(-key_tokens.max() // np.arange(1, most_pieces + 1))
    others = -(-np.unique(key_tokens)[:, None] // np.arange(1, few_pieces + 1))
    return np.unique(np.concatenate((longest, others.reshape(-1))))[::-1]


def _few_widths(key_tokens: IntArray) -> list[int]:
    """For unequal pieces, whose rests are not padded to the width: one wider than all contexts, then narrower ones."""
    longest = int(key_tokens.max())
    quartiles = np.quantile(key_tokens, (0.75, 0.5, 0.25), method="nearest").tolist()
    widths = {int(width) for width in (*quartiles, *(-(-longest // n) for n in (2, 3, 4, 6, 8)))}
    return [longest + 1, *sorted(widths - {longest + 1}, reverse=True)]
