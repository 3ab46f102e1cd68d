import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue, scheduled_arrivals_s
from spinbench.workload.request import Request


def requests_at(*arrivals_s: float) -> list[Request]:
    return [Request(f"r{n}", arrival_s, 1, prompt="x") for n, arrival_s in enumerate(arrivals_s)]


def times_of(sent: list[tuple[Request, float]]) -> list[float]:
    return [arrival_s for _, arrival_s in sent]


def ids_of(sent: list[tuple[Request, float]]) -> list[str]:
    return [request.id for request, _ in sent]


def all_times(pattern: ArrivalPattern, count: int) -> np.ndarray:
    return np.array(times_of(ArrivalQueue(requests_at(*[0.0] * count), pattern).take_due(math.inf, 0)))


def test_open_loop_follows_the_trace_however_late_it_is_polled() -> None:
    queue = ArrivalQueue(requests_at(2.0, 1.0, 1.0, 5.0), ArrivalPattern())
    assert len(queue) == 4
    assert queue.next_due_s(100) == 1.0
    assert queue.take_due(0.5, 0) == []
    sent = queue.take_due(3.0, 0)
    assert ids_of(sent) == ["r1", "r2", "r0"]
    assert times_of(sent) == [1.0, 1.0, 2.0]
    assert len(queue) == 1
    assert queue.next_due_s(3) == 5.0
    assert times_of(queue.take_due(5.0, 3)) == [5.0]
    assert queue.next_due_s(0) is None
    assert queue.take_due(9.0, 0) == []


@pytest.mark.parametrize("pattern", [ArrivalPattern("all_at_once"), ArrivalPattern("gamma", request_rate=math.inf)])
def test_all_at_once_is_all_at_zero_in_the_order_given(pattern: ArrivalPattern) -> None:
    sent = ArrivalQueue(requests_at(3.0, 1.0, 2.0), pattern).take_due(0.0, 0)
    assert ids_of(sent) == ["r0", "r1", "r2"]
    assert times_of(sent) == [0.0, 0.0, 0.0]


def test_a_request_that_waits_for_a_place_arrives_when_it_gets_it() -> None:
    queue = ArrivalQueue(requests_at(0.0, 0.0, 0.0, 4.0), ArrivalPattern(max_concurrency=2))
    assert times_of(queue.take_due(0.0, 0)) == [0.0, 0.0]
    assert queue.next_due_s(2) is None
    assert queue.take_due(1.0, 2) == []
    # One finished by 3: the third request, due at 0, gets its place.
    assert queue.next_due_s(1) == 0.0
    assert times_of(queue.take_due(3.0, 1)) == [3.0]
    # Both finished by 3.5, so the fourth finds a place when it is due at 4, though it is seen at 6.
    assert queue.take_due(3.5, 0) == []
    assert times_of(queue.take_due(6.0, 0)) == [4.0]


def test_places_free_since_the_last_poll_go_to_the_first_and_the_others_waited() -> None:
    queue = ArrivalQueue(requests_at(0.0, 0.0, 1.0, 2.0), ArrivalPattern(max_concurrency=3))
    assert times_of(queue.take_due(0.5, 0)) == [0.0, 0.0]
    # One place was free all along, a second only since a request finished by 5.
    assert times_of(queue.take_due(5.0, 1)) == [1.0, 5.0]


def test_a_closed_loop_keeps_the_server_full() -> None:
    queue = ArrivalQueue(requests_at(*[0.0] * 5), ArrivalPattern("all_at_once", max_concurrency=2))
    assert ids_of(queue.take_due(0.0, 0)) == ["r0", "r1"]
    assert ids_of(queue.take_due(1.0, 1)) == ["r2"]
    assert ids_of(queue.take_due(2.0, 0)) == ["r3", "r4"]
    assert len(queue) == 0


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
def test_gamma_gaps_have_the_mean_and_the_spread_asked_for(burstiness: float) -> None:
    times_s = all_times(ArrivalPattern("gamma", request_rate=20.0, burstiness=burstiness, seed=3), 20_000)
    gaps_s = np.diff(times_s, prepend=0.0)
    assert times_s[0] > 0
    assert gaps_s.mean() == pytest.approx(1 / 20, rel=0.03)
    # The coefficient of variation of a gamma law is 1 / sqrt(shape).
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(burstiness**-0.5, rel=0.03)


def test_infinite_burstiness_is_evenly_spaced() -> None:
    pattern = ArrivalPattern("gamma", request_rate=4.0, burstiness=math.inf)
    assert all_times(pattern, 4).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_the_seed_decides() -> None:
    first, again, other = (ArrivalPattern("gamma", request_rate=1.0, seed=seed) for seed in (1, 1, 2))
    assert all_times(first, 9).tolist() == all_times(again, 9).tolist()
    assert all_times(first, 9).tolist() != all_times(other, 9).tolist()


def test_the_rate_scales_the_same_gaps() -> None:
    slow, fast = (all_times(ArrivalPattern("gamma", request_rate=rate), 50) for rate in (1.0, 8.0))
    np.testing.assert_allclose(slow, 8 * fast)


def test_no_request_is_no_arrival() -> None:
    queue = ArrivalQueue([], ArrivalPattern("gamma", request_rate=1.0))
    assert (len(queue), queue.next_due_s(0), queue.take_due(math.inf, 0)) == (0, None, [])


patterns = st.one_of(
    st.builds(ArrivalPattern, max_concurrency=st.none() | st.integers(1, 4)),
    st.builds(ArrivalPattern, st.just("all_at_once"), max_concurrency=st.none() | st.integers(1, 4)),
    st.builds(
        ArrivalPattern,
        st.just("gamma"),
        request_rate=st.floats(0.1, 100) | st.just(math.inf),
        burstiness=st.floats(0.1, 10) | st.just(math.inf),
        max_concurrency=st.none() | st.integers(1, 4),
        seed=st.integers(0, 99),
    ),
)


@given(
    st.lists(st.floats(0, 20), max_size=25),
    patterns,
    # What the server does between two polls: seconds passed, share of its requests finished.
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from([0.0, 0.3, 1.0])), min_size=1, max_size=20),
)
def test_every_request_is_sent_once_in_order_never_early_never_over_the_cap(
    arrivals_s: list[float], pattern: ArrivalPattern, steps: list[tuple[float, float]]
) -> None:
    requests = requests_at(*arrivals_s)
    queue = ArrivalQueue(requests, pattern)
    expected = sorted(requests, key=lambda request: request.arrival_s) if pattern.kind == "trace" else requests
    due_s = scheduled_arrivals_s(expected, pattern)
    cap = pattern.max_concurrency or math.inf
    now_s, outstanding = 0.0, 0
    sent: list[tuple[Request, float]] = []
    # After the steps, a server that finishes everything each time: the queue must run empty.
    for passed_s, share in [*steps, *[(1e4, 1.0)] * len(requests)]:
        now_s += passed_s
        outstanding -= math.ceil(share * outstanding)
        next_s = queue.next_due_s(outstanding)
        now_sent = queue.take_due(now_s, outstanding)
        assert bool(now_sent) == (next_s is not None and next_s <= now_s)
        assert all(arrival_s <= now_s for arrival_s in times_of(now_sent))
        outstanding += len(now_sent)
        assert outstanding <= cap
        sent += now_sent
        assert len(queue) == len(requests) - len(sent)
    assert [request for request, _ in sent] == expected
    times_s = times_of(sent)
    assert times_s == sorted(times_s)
    assert all(arrival_s >= scheduled_s for arrival_s, scheduled_s in zip(times_s, due_s, strict=True))
    if cap == math.inf:
        assert times_s == due_s


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "poisson"}, 'arrivals.kind is "poisson"; kinds are trace, all_at_once, gamma'),
        ({"kind": "gamma", "request_rate": 0}, "arrivals.request_rate is 0; it must be > 0 or inf"),
        ({"kind": "gamma", "request_rate": math.nan}, "arrivals.request_rate is nan; it must be > 0 or inf"),
        ({"kind": "gamma", "burstiness": -1.0}, "arrivals.burstiness is -1.0; it must be > 0 or inf"),
        ({"max_concurrency": 0}, "arrivals.max_concurrency is 0; it must be >= 1, or null for no cap"),
        ({"seed": -1}, "arrivals.seed is -1; it must be >= 0"),
        (
            {"request_rate": 4.0},
            "arrivals.request_rate is 4.0 but has no effect with arrivals.kind=trace; set arrivals.kind=gamma or leave it at inf",
        ),
        (
            {"kind": "all_at_once", "burstiness": 2.0},
            "arrivals.burstiness is 2.0 but has no effect with arrivals.kind=all_at_once; "
            "set arrivals.kind=gamma or leave it at 1.0",
        ),
    ],
)
def test_a_bad_value_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        ArrivalPattern(**options)
    assert str(caught.value) == message


def test_times_that_overflow_are_said() -> None:
    with pytest.raises(UserError, match="so small that arrival times overflow"):
        ArrivalQueue(requests_at(0.0), ArrivalPattern("gamma", request_rate=1e-300, burstiness=1e-300))
