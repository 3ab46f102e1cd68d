"""Timings as if the machine had kept one pace throughout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

WINDOW = 21
"""Timings in a row whose median deviation is the machine's pace in their middle: a second or two of jobs."""
ROUNDS = 6

History = Sequence[tuple[str, float]]
"""Points and seconds in the order in which they were timed."""


@dataclass(frozen=True, slots=True)
class Paced:
    """Timings with the machine's pace taken out, and what that pace was."""

    seconds: Mapping[str, list[float]]
    """By point, in the order in which they were timed."""
    p10: float
    """A tenth of all timings was taken at this pace or a faster one: their times over those at the mean pace."""
    p90: float


def at_common_pace(history: History, window: int = WINDOW) -> Paced:
    """Each timing divided by how slow the machine was just then.

    A shared machine is slower for seconds or minutes, whatever runs. Points that are soon sure, or that take long, are
    timed in a part of the profile only, and would be compared by what the machine did in that part. So the logarithm of
    a timing is taken for a sum of its point's, of the pace then, and of noise; point and pace are found by turns, as
    medians (Tukey's median polish): a point's over its timings, the pace over `window` neighbours, most of them
    timings of other points. What is left are times at the mean pace, whose sums are what a long run takes. Raises
    ValueError without a timing.
    """
    if not history:
        raise ValueError("no timing")
    names, point = np.unique([name for name, _ in history], return_inverse=True)
    log_s = pd.Series(np.log([seconds for _, seconds in history]))
    pace = pd.Series(np.zeros(len(log_s)))
    for _ in range(ROUNDS):
        of_point = (log_s - pace).groupby(point).transform("median")
        pace = (log_s - of_point).rolling(window, center=True, min_periods=1).median()
        pace -= np.log(np.exp(pace).mean())
    seconds = np.exp((log_s - pace).to_numpy())
    order = np.argsort(point, kind="stable")
    parts = np.split(seconds[order], np.flatnonzero(np.diff(point[order])) + 1)
    p10, p90 = np.exp(np.percentile(pace, [10, 90])).tolist()
    return Paced({str(name): part.tolist() for name, part in zip(names, parts, strict=True)}, p10, p90)
