"""NormalHedge: weights of experts from their regrets, without a learning rate."""

import numpy as np

from spinbench.control.arrays import FloatArray

NEWTON_STEPS = 10
"""The function is convex and the start is right of its root, so the steps come down to it and double their digits."""


def normal_hedge_weights(regret: FloatArray) -> FloatArray:
    """Probabilities of the drafters, [learners, drafters], from the regret towards each.

    Chaudhuri, Freund and Hsu 2009, figure 1: with x = max(regret, 0) and c such that the mean of exp(x^2 / (2 c)) is
    e, weights are proportional to x / c exp(x^2 / (2 c)); all alike where no regret is positive.
    """
    num_drafters = regret.shape[1]
    positive = np.maximum(regret, 0.0)
    largest = positive.max(1, keepdims=True)
    some = largest > 0
    # in units of the largest: x in [0, 1]; solve for u = 1 / (2 c)
    squares = (positive / np.where(some, largest, 1.0)) ** 2
    # the root is largest where a single x is 1 and the others are 0
    u = np.full_like(largest, np.log(num_drafters * (np.e - 1) + 1))
    for _ in range(NEWTON_STEPS):
        powers = np.exp(u * squares)
        mean = powers.mean(1, keepdims=True)
        slope = (powers * squares).mean(1, keepdims=True) / mean
        u = u - np.where(some, (np.log(mean) - 1) / np.where(some, slope, 1.0), 0.0)
    weights = np.where(some, positive * np.exp(u * (squares - 1)), 1.0)
    return weights / weights.sum(1, keepdims=True)
