"""Maximum-weight matching of requests to the places of drafters."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from spinbench.control.arrays import FloatArray, IntArray


def match_requests(goodput: FloatArray, capacities: IntArray) -> IntArray:
    """The drafter of each request, so that the sum of goodputs is the largest that the capacities allow.

    SPIN's assignment step (arXiv 2503.15921): a bipartite graph of requests and drafter places, edge weight = estimated
    goodput. `goodput` is float [requests, drafters], finite or +inf (never tried: preferred over everything);
    `capacities` gives each drafter's places B_j. Raises ValueError if there are fewer places than requests.
    """
    num_requests, num_drafters = goodput.shape
    if min(capacities.tolist()) >= num_requests:
        return goodput.argmax(1)  # nobody can be in another's way
    places = np.repeat(np.arange(num_drafters), np.minimum(capacities, num_requests))
    if len(places) < num_requests:
        raise ValueError(f"{num_requests} requests do not fit {len(places)} places")
    finite = goodput[np.isfinite(goodput)]
    # one untried edge outweighs every sum of tried ones, and stays finite for the solver
    optimistic = (finite.max() if len(finite) else 1.0) * (num_requests + 1) + 1.0
    weights = np.where(np.isfinite(goodput), goodput, optimistic)
    _, columns = linear_sum_assignment(weights[:, places], maximize=True)
    return places[columns]
