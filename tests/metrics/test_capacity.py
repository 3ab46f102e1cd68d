"""The search for the largest rate that keeps a goal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.metrics.capacity import LEAST_SHARE_OF_SATURATION, Capacity, Load, find_capacity

NUM_REQUESTS = 1000


class Server:
    """Keeps the limits for everybody up to `limit_rps`, and for a smaller share of requests the faster they come."""

    def __init__(self, limit_rps: float, saturation_rps: float) -> None:
        self._limit_rps = limit_rps
        self._saturation_rps = saturation_rps
        self.tried: list[float] = []

    def __call__(self, rate_rps: float) -> Load:
        self.tried.append(rate_rps)
        share = min(1.0, self._limit_rps / rate_rps)
        return Load(rate_rps, NUM_REQUESTS, round(share * NUM_REQUESTS), min(rate_rps, self._saturation_rps))


@given(
    st.floats(0.05, 3.0), st.floats(0.01, 1000.0), st.sampled_from([0.5, 0.9, 0.99, 1.0]), st.sampled_from([0.3, 0.02, 1e-3])
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_it_finds_where_the_goal_is_missed(share: float, saturation: float, goal: float, tolerance: float) -> None:
    server = Server(share * saturation, saturation)
    capacity = find_capacity(server, goal, tolerance)
    assert capacity.request_rate < capacity.fails_at
    assert capacity.fails_at - capacity.request_rate <= tolerance * capacity.fails_at
    # of 1,000 requests, one more or less is the last digit
    true = share * saturation / goal
    assert capacity.request_rate <= true * (1 + 2 / NUM_REQUESTS)
    assert capacity.fails_at >= true * (1 - 2 / NUM_REQUESTS)
    assert capacity.saturation_rate == saturation
    assert not capacity.disorder
    assert len(set(server.tried)) == len(server.tried), "no rate is tried twice"
    assert [load.request_rate for load in capacity.loads] == sorted(server.tried)


def test_a_goal_out_of_reach_is_said() -> None:
    saturation = 8.0
    server = Server(saturation * LEAST_SHARE_OF_SATURATION / 4, saturation)
    with pytest.raises(UserError, match=r"no rate reaches the goal of 0\.99: even at .* requests keep the SLO"):
        find_capacity(server, 0.99, 0.02)
    assert len(server.tried) < 16


def test_a_goal_that_no_rate_misses_is_said() -> None:
    with pytest.raises(UserError, match="1000 of 1000 requests keep the SLO even if all come at once"):
        find_capacity(lambda rate: Load(rate, NUM_REQUESTS, NUM_REQUESTS, 5.0), 0.99, 0.02)


def test_a_rate_below_that_misses_the_goal_is_named() -> None:
    # only noise does that: 10 requests/s miss it, and 40 keep it
    tried = [
        Load(10.0, NUM_REQUESTS, 980, 10.0),
        Load(40.0, NUM_REQUESTS, 995, 40.0),
        Load(80.0, NUM_REQUESTS, 5, 50.0),
    ]
    capacity = Capacity(0.99, 40.0, 80.0, 50.0, tuple(tried))
    assert capacity.disorder == (tried[0],)
