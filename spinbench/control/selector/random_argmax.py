"""The best drafter, ties broken at random."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray


def random_argmax(values: FloatArray, rng: np.random.Generator) -> IntArray:
    """Place of the largest value in each row of [requests, drafters], int [requests].

    Ties, and above all drafters that nobody tried (infinite), are broken at random: the requests of a batch spread.
    """
    return np.where(values == values.max(1, keepdims=True), rng.random(values.shape), -1.0).argmax(1)
