"""Intervals of ratios by the paired bootstrap: the same requests and repeats are drawn for both sides.

What two runs of one trace have in common (long answers, hard prompts, bursts) cancels in each draw, so that small
differences show which the spread over requests would hide (Efron, Tibshirani: An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 2000
CONFIDENCE = 0.95
MAX_DRAWN = 4_000_000
"""Values drawn at a time, for memory."""

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""From values [draws, count, columns] to a number for each draw."""


def mean(values: Values) -> Values:
    """Of the only column."""
    return values[..., 0].mean(axis=1)


def percentile(rank: float) -> Statistic:
    """Of the only column, linearly interpolated as in summary.json."""
    return lambda values: np.percentile(values[..., 0], rank, axis=1)


def ratio_of_sums(values: Values) -> Values:
    """Of the first column over the second: what a mean over rounds is, when requests are drawn."""
    sums = values.sum(axis=1)
    return sums[:, 0] / sums[:, 1]


def ratio_interval(
    before: Values, after: Values, statistic: Statistic, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Between which bounds the ratio of the statistic, after over before, lies in 95 % of the draws.

    `before` and `after` are [repeats, requests, columns], pairs in the same places. With several repeats these are
    drawn too. None where there is but one value, or the statistic is 0.
    """
    repeats, requests, columns = before.shape
    if repeats * requests < 2:
        return None
    ratios: list[Values] = []
    at_once = max(1, MAX_DRAWN // (repeats * requests * columns))
    for begin in range(0, NUM_DRAWS, at_once):
        draws = min(at_once, NUM_DRAWS - begin)
        repeat = rng.integers(repeats, size=(draws, repeats, 1))
        request = rng.integers(requests, size=(draws, 1, requests))
        drawn = [side[repeat, request].reshape(draws, repeats * requests, columns) for side in (before, after)]
        below, above = (statistic(values) for values in drawn)
        if not np.all(below):
            return None
        ratios.append(above / below)
    outside = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(np.concatenate(ratios), [outside, 100 - outside])
    return float(low), float(high)
