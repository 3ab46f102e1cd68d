"""Lengths of accepted runs."""

import numpy as np
import numpy.typing as npt

MAX_RUN = 255
"""Longest run that is told apart; no drafter drafts as many tokens."""


def run_lengths(accepted: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """How many tokens from each position on are accepted without a gap, to the end of the request's text.

    `accepted` is bool [..., positions]; request i has the positions `offsets[i]` to `offsets[i + 1]`. At most 255.
    """
    index = np.arange(accepted.shape[-1], dtype=np.int32)
    ends = np.repeat(offsets[1:].astype(np.int32), np.diff(offsets))
    runs = np.empty(accepted.shape, np.uint8)
    for place in np.ndindex(accepted.shape[:-1]):
        # the nearest of: a token not accepted, the own end (ends and positions of later requests are never nearer)
        stop = np.where(accepted[place], ends, index)
        stop = np.minimum.accumulate(stop[::-1])[::-1]
        runs[place] = np.minimum(stop - index, MAX_RUN)
    return runs


def cut_at_end(runs: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Runs uint8 [..., positions] cut where their request's text ends."""
    return np.minimum(runs, capped_remaining(offsets))


def capped_remaining(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """As `remaining`, at most `MAX_RUN`."""
    return np.minimum(remaining(offsets), MAX_RUN).astype(np.uint8)


def remaining(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Tokens from each position to the end of its request's text, the position's own included."""
    index = np.arange(int(offsets[-1]), dtype=np.int32)
    return np.repeat(offsets[1:].astype(np.int32), np.diff(offsets)) - index


def stretches(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The indices of consecutive stretches behind each other, int32 [sum of lengths]."""
    ends = np.cumsum(lengths)
    first = (starts - (ends - lengths)).astype(np.int32)
    return np.repeat(first, lengths) + np.arange(int(lengths.sum()), dtype=np.int32)
