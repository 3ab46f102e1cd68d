"""Drafting for requests of which some have a draft that was made ahead: again for those whose guess was wrong."""

import numpy as np

from spinbench.control.arrays import FloatArray

TINY_CHANCE = 1e-12


def log_chance(guesses: FloatArray) -> FloatArray:
    """Logarithm of the chance that guesses at the bonus token are right, so that those of several requests add up;
    finite where there is none."""
    return np.log(np.maximum(guesses, TINY_CHANCE))


def own_again_s(guesses: FloatArray, own_s: FloatArray) -> FloatArray:
    """Mean of what a request adds to its drafter's job: `own_s` where its guess is wrong."""
    return (1 - guesses) * own_s


def job_again_s(lane_s: FloatArray, own_s: FloatArray, log_all_right: FloatArray) -> FloatArray:
    """Mean seconds of a drafter's job: `lane_s` whoever is in it, unless all guesses are right and there is none.

    `own_s` is what its requests add, as `own_again_s` has it; `log_all_right` the sum of their `log_chance`.
    """
    return lane_s * -np.expm1(log_all_right) + own_s


def mean_drafted_again(guess: float, count: int) -> float:
    """Requests of such a job in the mean, of `count` whose guesses are each right with the same chance."""
    return count * (1 - guess) / (1 - guess**count) if guess < 1 else 1.0
