"""Maximum-weight matching of requests to the places of drafters."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment


def match_requests(goodput: np.ndarray, capacities: Sequence[int]) -> list[int]:
    """The drafter of each request, so that the sum of goodputs is the largest that the capacities allow.

    SPIN's assignment step (arXiv 2503.15921): a bipartite graph of requests and drafter places, edge weight = estimated
    goodput. `goodput` is float [requests, drafters], finite or +inf (never tried: preferred over everything);
    `capacities` gives each drafter's places B_j. Raises ValueError if there are fewer places than requests.
    """
    num_requests, num_drafters = goodput.shape
    places = np.repeat(np.arange(num_drafters), [min(capacity, num_requests) for capacity in capacities])
    if len(places) < num_requests:
        raise ValueError(f"{num_requests} requests do not fit {len(places)} places")
    finite = goodput[np.isfinite(goodput)]
    # one untried edge outweighs every sum of tried ones, and stays finite for the solver
    optimistic = (finite.max() if len(finite) else 1.0) * (num_requests + 1) + 1.0
    weights = np.where(np.isfinite(goodput), goodput, optimistic)
    _, columns = linear_sum_assignment(weights[:, places], maximize=True)
    return places[columns].tolist()
