"""How far two guesses of what comes next agree, as one byte per position, and what that says of each drafted token."""

import numpy as np
import numpy.typing as npt

MAX_AGREED = 8
"""Tokens that are compared; what agrees so far is taken to agree for good."""
NOTHING_TO_COMPARE = 255
"""Stands where there are no two guesses, and where nobody knows."""
NUM_AGREEMENTS = 4
"""Classes of `agreement`."""


def agreed_run(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Tokens that two drafts have alike from their first one on, [..., tokens] each -> [...]."""
    return np.logical_and.accumulate(first == second, axis=-1).sum(-1)


def agreement(run: npt.NDArray[np.int64], num_tokens: int) -> npt.NDArray[np.int64]:
    """Class of each of `num_tokens` drafted tokens by the tokens that agree, [n] -> [n, num_tokens].

    0 = nothing to compare, 1 = both guesses say this token, 2 = here they part, 3 = they have parted before.
    """
    run = np.where(run == MAX_AGREED, num_tokens, run)[:, None]
    place = np.arange(num_tokens)
    parted = np.where(place < run, 1, np.where(place == run, 2, 3))
    return np.where(run == NOTHING_TO_COMPARE, 0, parted)
