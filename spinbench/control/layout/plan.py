"""What a verification layout launches: rectangles of attention, and their cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleShape

LayoutKind = Literal["packed", "padded", "grouped", "decomposed"]


@dataclass(frozen=True, slots=True, eq=False)
class Rectangle:
    """One call of attention: pieces of requests' contexts, one a row, padded to a common width."""

    places: IntArray
    """[pieces] whose context each piece is of: a place in the batch."""
    first_key: IntArray
    """[pieces] position at which each piece begins."""
    num_keys: IntArray
    """[pieces] its length in tokens, at most `key_width`."""
    query_width: int
    """Query rows that each piece gets: the most that any of its requests has."""
    key_width: int

    @property
    def num_query_tokens(self) -> int:
        """Query rows, copies and padding included."""
        return len(self.places) * self.query_width

    @property
    def num_key_tokens(self) -> int:
        """Keys, padding included."""
        return len(self.places) * self.key_width

    @property
    def num_cells(self) -> int:
        """(query row x key) positions, padding included."""
        return self.num_query_tokens * self.key_width


class LayoutPlan(NamedTuple):
    """What is launched. A cell is one (query row x key) position; `useful + padded = launched`."""

    kind: LayoutKind
    query_width: int
    """Rows that each request takes in the linear layers; 0 = as many as it has. Only `padded` pads them there."""
    useful_cells: int
    padded_cells: int
    query_tokens: int
    """Query rows that attention reads, copies and padding included."""
    key_tokens: int
    """Keys that attention reads, padding included."""
    peak_key_tokens: int = 0
    """Keys that are copied out of the KV cache at once, a layer at a time; 0 = they are read where they lie."""
    merged_query_tokens: int = 0
    """Query rows of pieces whose results are merged: those of requests in more than one piece."""
    rectangles: tuple[Rectangle, ...] = ()
    """Calls of attention, one after the other; none = one call for each request, on its own rows and keys."""

    @property
    def shape(self) -> RectangleShape:
        """What the time of the rectangles depends on."""
        return RectangleShape(
            num_rectangles=len(self.rectangles),
            num_pieces=sum(len(rectangle.places) for rectangle in self.rectangles),
            num_rows=self.query_tokens,
            num_keys=self.key_tokens,
            num_cells=self.useful_cells + self.padded_cells,
            num_merges=int(self.merged_query_tokens > 0),
            num_merged_rows=self.merged_query_tokens,
        )


def whole_contexts(query_tokens: IntArray, key_tokens: IntArray, places: IntArray | None = None) -> Rectangle:
    """One rectangle of whole contexts, of the whole batch or of the requests in these places."""
    if places is None:
        places = np.arange(len(key_tokens))
    keys = key_tokens[places]
    return Rectangle(places, np.zeros_like(places), keys, int(query_tokens[places].max()), int(keys.max()))


def rectangles_plan(
    kind: LayoutKind, query_tokens: IntArray, key_tokens: IntArray, rectangles: Sequence[Rectangle]
) -> LayoutPlan:
    """The plan that these rectangles make up; together they hold every key of every request once."""
    useful = int(query_tokens @ key_tokens)
    launched = sum(rectangle.num_cells for rectangle in rectangles)
    merged = 0
    num_pieces = sum(len(rectangle.places) for rectangle in rectangles)
    if num_pieces > len(key_tokens):
        # all rectangles have the same query width then: what they computed is put into one tensor
        pieces = np.bincount(np.concatenate([rectangle.places for rectangle in rectangles]), minlength=len(key_tokens))
        merged = int(pieces[pieces > 1].sum()) * rectangles[0].query_width
    return LayoutPlan(
        kind=kind,
        query_width=rectangles[0].query_width if kind == "padded" else 0,
        useful_cells=useful,
        padded_cells=launched - useful,
        query_tokens=sum(rectangle.num_query_tokens for rectangle in rectangles),
        key_tokens=sum(rectangle.num_key_tokens for rectangle in rectangles),
        peak_key_tokens=max(rectangle.num_key_tokens for rectangle in rectangles),
        merged_query_tokens=merged,
        rectangles=tuple(rectangles),
    )
