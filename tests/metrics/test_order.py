import numpy as np
import pytest

from spinbench.metrics.order import by_request_and_time


@pytest.mark.parametrize("num_requests", [3, 40_000])  # numbers of 16 bits, and of more
def test_order_is_that_of_a_sort_by_two_keys(num_requests: int) -> None:
    rng = np.random.default_rng(0)
    request, time_s = rng.integers(0, num_requests, 500), rng.integers(0, 20, 500).astype(float)
    request[0] = num_requests - 1
    assert by_request_and_time(request, time_s).tolist() == np.lexsort((time_s, request)).tolist()


def test_nothing_has_an_order() -> None:
    assert by_request_and_time(np.empty(0, np.int64), np.empty(0)).tolist() == []
