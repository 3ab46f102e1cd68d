"""The shapes that predicted times have: a curve over a count, and attention's law in requests, rows and keys."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray

MAX_TABLE_COUNT = 16_384
"""Up to here a curve is also kept as a list, one entry per count: the simulator asks it millions of times."""

Amount = TypeVar("Amount", float, FloatArray)
"""One number, or an array of cases."""


@dataclass(frozen=True)
class Curve:
    """Seconds against a count (rows of a pass, say): through knots, linear between them, never falling.

    Below the first knot it is flat. Beyond the last it goes on with the last slope, but at least in proportion: a
    curve that is still flat there is bound by memory, and will not stay so.
    """

    counts: tuple[int, ...]
    """Rising."""
    seconds: tuple[float, ...]
    """Not negative, not falling."""
    max_count: int = field(init=False, repr=False, compare=False)
    """Largest count that was measured."""
    table: list[float] = field(init=False, repr=False, compare=False)
    """Seconds for every count from 0 on, as far as it goes; all of it was measured."""
    _slope_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts, seconds = self.counts, self.seconds
        if len(counts) < 1 or len(counts) != len(seconds):
            raise ValueError(
                f"a curve needs as many seconds as counts, at least one; got {len(counts)}, {len(seconds)}"
            )
        if any(low >= high for low, high in pairwise(counts)) or counts[0] < 1:
            raise ValueError("the counts of a curve must rise, from 1 or more")
        if seconds[0] < 0 or any(low > high for low, high in pairwise(seconds)):
            raise ValueError("the seconds of a curve must not be negative and must not fall")
        slope = seconds[-1] / counts[-1]
        if len(counts) > 1:
            slope = max(slope, (seconds[-1] - seconds[-2]) / (counts[-1] - counts[-2]))
        object.__setattr__(self, "max_count", counts[-1])
        top = min(counts[-1], MAX_TABLE_COUNT)
        object.__setattr__(self, "table", np.interp(np.arange(top + 1), counts, seconds).tolist())
        object.__setattr__(self, "_slope_s", slope)

    def of(self, count: int) -> float:
        """Seconds for `count`."""
        if count < len(self.table):
            return self.table[count]
        counts, seconds = self.counts, self.seconds
        if count >= counts[-1]:
            return seconds[-1] + self._slope_s * (count - counts[-1])
        right = bisect_right(counts, count)
        share = (count - counts[right - 1]) / (counts[right] - counts[right - 1])
        return seconds[right - 1] + share * (seconds[right] - seconds[right - 1])


def rising(seconds: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The sequence that never falls and is nearest to `seconds` in weighted squares (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, entries
    for value, weight in zip(seconds, weights, strict=True):
        mean, total, size = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, weight_before, size_before = blocks.pop()
            mean = (before * weight_before + mean * total) / (weight_before + total)
            total, size = weight_before + total, size_before + size
        blocks.append((mean, total, size))
    return [mean for mean, _, size in blocks for _ in range(size)]


@dataclass(frozen=True, slots=True)
class RaggedAttention:
    """Seconds of attention over ragged rows, all layers of a pass together; every coefficient is at least 0.

    Requests are computed one by one, in one of three ways: one row against its context (decode), several rows behind
    a context (extend: a masked kernel; costs a decode and more), a whole context from its first token (causal kernel,
    whose blocks change with the rows, so that a curve describes it and no polynomial does).
    """

    pass_s: float
    request_s: float
    key_s: float
    extend_request_s: float
    extend_row_s: float
    """Per row beyond the first."""
    extend_cell_s: float
    """Per (row beyond the first x key)."""
    whole: Curve
    """By rows of a whole context: what it adds to `request_s`."""

    def decode_s(self, num_keys: Amount) -> Amount:
        """One request, one row."""
        return self.request_s + self.key_s * num_keys

    def extend_s(self, num_rows: int, num_keys: Amount) -> Amount:
        """One request, `num_rows` > 1 rows at the end of `num_keys` keys."""
        further = num_rows - 1
        return (
            self.request_s
            + self.extend_request_s
            + further * self.extend_row_s
            + num_keys * (self.key_s + further * self.extend_cell_s)
        )

    def requests_s(self, starts: Sequence[int], stops: Sequence[int]) -> float:
        """Requests whose tokens `start` to `stop` are run."""
        # decode and extend are linear in keys, rows and cells, so that only whole numbers are added up one by one
        whole_s, extended, further_rows, keys, further_cells = 0.0, 0, 0, sum(stops), 0
        for start, stop in zip(starts, stops, strict=True):
            further = stop - start - 1
            if further:
                if start:
                    extended += 1
                    further_rows += further
                    further_cells += further * stop
                else:
                    keys -= stop
                    whole_s += self.whole.of(stop)
        return self.sums_s(len(stops), keys, extended, further_rows, further_cells, whole_s)

    def sums_s(
        self, count: int, keys: int, extended: int, further_rows: int, further_cells: int, whole_s: float = 0.0
    ) -> float:
        """The same of `count` requests by what they add up to, which is how a job may know them.

        `keys` of all that are not whole contexts; of the `extended` ones, with more than one row, the rows beyond the
        first and those times the request's keys; `whole_s` is what whole contexts add.
        """
        return (
            whole_s
            + count * self.request_s
            + keys * self.key_s
            + extended * self.extend_request_s
            + further_rows * self.extend_row_s
            + further_cells * self.extend_cell_s
        )


class RectangleShape(NamedTuple):
    """What the attention of a pass over rectangles consists of; each one number, or an array of cases."""

    num_rectangles: int | IntArray
    """Calls of the kernel."""
    num_pieces: int | IntArray
    """Rows of the rectangles: requests, or pieces of their contexts."""
    num_rows: int | IntArray
    """Query rows, copies and padding included, as in all that follows."""
    num_keys: float | IntArray | FloatArray
    num_cells: float | IntArray | FloatArray
    num_merges: int | IntArray = 0
    """1 where any request is in several pieces."""
    num_merged_rows: int | IntArray = 0
    """Query rows of pieces whose results are merged."""


@dataclass(frozen=True, slots=True)
class RectangleAttention:
    """Seconds of attention over rectangles of rows and keys, all layers of a pass together; none is negative."""

    rectangle_s: float
    piece_s: float
    row_s: float
    key_s: float
    cell_s: float
    merge_s: float = 0.0
    """Putting the results of pieces together, once a pass."""
    merged_row_s: float = 0.0

    def of(self, shape: RectangleShape) -> Any:
        """Seconds, one number or an array, as the shape's are."""
        return (
            shape.num_rectangles * self.rectangle_s
            + shape.num_pieces * self.piece_s
            + shape.num_rows * self.row_s
            + shape.num_keys * self.key_s
            + shape.num_cells * self.cell_s
            + shape.num_merges * self.merge_s
            + shape.num_merged_rows * self.merged_row_s
        )
