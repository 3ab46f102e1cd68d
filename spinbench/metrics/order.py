"""Events of requests, put in order."""

import numpy as np


def by_request_and_time(request: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Places of events, int [events], request by request and in time; events of one moment stay as they were.

    `request` are whole numbers from 0. What `np.lexsort` gives, in a fraction of its time: a run's events are nearly in
    order of time already, and numbers of 16 bits are sorted without comparing them.
    """
    in_time = np.argsort(time_s, kind="stable")
    numbers = request[in_time]
    if numbers.max(initial=0) <= np.iinfo(np.int16).max:
        numbers = numbers.astype(np.int16)
    return in_time[np.argsort(numbers, kind="stable")]
