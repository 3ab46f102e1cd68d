"""A drafter drawn by probabilities."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray


def random_draw(probability: FloatArray, rng: np.random.Generator) -> IntArray:
    """A place in each row of [requests, drafters], whose rows sum to 1, with the probability that stands there."""
    cumulated = probability.cumsum(1)
    # over the sum as it was rounded, so that no draw lies beyond the last place that has any probability
    return (cumulated <= rng.random((len(probability), 1)) * cumulated[:, -1:]).sum(1)
