"""What each router promises, on loads made up by hypothesis."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.router.dispatcher import Dispatcher
from spinbench.control.router.least_outstanding_tokens import LeastOutstandingTokensRouter
from spinbench.control.router.load import ReplicaLoad, ReplicaSnapshot
from spinbench.control.router.pace import Pace
from spinbench.control.router.place_schedule import PlaceSchedule
from spinbench.control.router.protocol import RoutedRequest, Router
from spinbench.control.router.round_robin import RoundRobinRouter
from spinbench.control.router.shortest_predicted_wait import ShortestPredictedWaitRouter
from spinbench.errors import UserError
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from tests.simulation.simulated import PROMPT_TOKENS, requests

PLACES = 2
REQUEST = RoutedRequest(4, 10)
ROUTERS = (RoundRobinRouter, LeastOutstandingTokensRouter, ShortestPredictedWaitRouter)
Lengths = Sequence[tuple[int, int]]

lengths = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=5)
paces = st.sampled_from([Pace(), Pace(0.01, 0.1), Pace(0.02, 0.05)])


PACE = Pace(0.01, 0.1)


def snapshot(work: Lengths, pace: Pace = PACE) -> ReplicaSnapshot:
    """The first requests run, with nothing left to prefill; others wait."""
    running, waiting = work[:PLACES], work[PLACES:]
    return ReplicaSnapshot(
        running_prompt_tokens=np.zeros(len(running), np.int64),
        running_answer_tokens=np.array([answer for _, answer in running], np.int64),
        waiting_prompt_tokens=np.array([prompt for prompt, _ in waiting], np.int64),
        waiting_answer_tokens=np.array([answer for _, answer in waiting], np.int64),
        pace=pace,
    )


def loads(works: Sequence[Lengths], indices: Sequence[int] | None = None) -> list[ReplicaLoad]:
    numbers = range(len(works)) if indices is None else indices
    return [ReplicaLoad(i, PLACES, lambda work=work: snapshot(work)) for i, work in zip(numbers, works, strict=True)]


def test_round_robin_takes_turns_and_passes_over_who_dropped_out() -> None:
    router = RoundRobinRouter()
    three = loads([[], [(9, 9)], []])
    assert [router.choose(REQUEST, three) for _ in range(4)] == [0, 1, 2, 0]
    assert [router.choose(REQUEST, loads([[], []], [0, 2])) for _ in range(3)] == [1, 0, 1]


@given(st.lists(lengths, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_least_outstanding_tokens_takes_the_least(works: list[Lengths]) -> None:
    chosen = LeastOutstandingTokensRouter().choose(REQUEST, loads(works))
    # running ones are prefilled already
    left = [sum(answer for _, answer in work) + sum(prompt for prompt, _ in work[PLACES:]) for work in works]
    assert chosen == left.index(min(left))


@given(st.lists(lengths, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_shortest_predicted_wait_takes_the_first_free_place(works: list[Lengths]) -> None:
    chosen = ShortestPredictedWaitRouter().choose(REQUEST, loads(works))
    waits = [simple_wait_s(work) for work in works]
    assert waits[chosen] == pytest.approx(min(waits))


def simple_wait_s(work: Lengths) -> float:
    """The same law, written as a clock that goes from event to event."""
    free_at = [0.1 * answer for _, answer in work[:PLACES]] + [0.0] * max(0, PLACES - len(work))
    prefilled_at = 0.0
    for prompt, answer in work[PLACES:]:
        free_at.sort()
        prefilled_at = max(prefilled_at, free_at.pop(0)) + 0.01 * prompt
        free_at.append(prefilled_at + 0.1 * answer)
    return max(prefilled_at, min(free_at))


@given(lengths, lengths, paces)
@settings(max_examples=30, deadline=None)
def test_what_is_routed_counts_at_once(before: Lengths, added: Lengths, pace: Pace) -> None:
    asked, unasked = (ReplicaLoad(0, PLACES, lambda: snapshot(before)) for _ in range(2))
    asked.wait_s(pace)
    tokens = asked.outstanding_tokens
    for prompt, answer in added:
        asked.add(prompt, answer)
        unasked.add(prompt, answer)
    assert asked.outstanding_tokens == unasked.outstanding_tokens == tokens + sum(map(sum, added))
    assert asked.wait_s(pace) == unasked.wait_s(pace)


@given(lengths, st.tuples(st.integers(1, 50), st.integers(1, 50)))
@settings(max_examples=30, deadline=None)
def test_a_further_request_never_shortens_the_wait(work: Lengths, one: tuple[int, int]) -> None:
    schedule = PlaceSchedule(PLACES, Pace(0.01, 0.1))
    for prompt, answer in work:
        schedule.add(prompt, answer)
    before = schedule.wait_s
    schedule.add(*one)
    assert schedule.wait_s >= before


@pytest.mark.parametrize("make", ROUTERS)
@given(st.integers(1, 4), st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_everybody_is_routed_once_and_idle_replicas_share(make: type[Router], num_replicas: int, count: int) -> None:
    trace = requests(count, 7)
    queue = ArrivalQueue(trace, ArrivalPattern("all_at_once"))
    dispatcher = Dispatcher(queue, make(), {request.id: PROMPT_TOKENS for request in trace}, PLACES)
    looks = {index: lambda: snapshot([]) for index in range(num_replicas)}
    routed = dispatcher.take_due(0.0, 0, looks)
    assert [one.request.id for one in routed] == [request.id for request in trace]
    counts = [sum(one.replica == index for one in routed) for index in range(num_replicas)]
    assert max(counts) - min(counts) <= 1
    assert not dispatcher


def test_a_router_that_names_nobody_is_told_so() -> None:
    class Lost:
        def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaLoad]) -> int:
            return len(replicas)

    trace = requests(1, 7)
    dispatcher = Dispatcher(ArrivalQueue(trace, ArrivalPattern("all_at_once")), Lost(), {"r0": 3}, PLACES)
    with pytest.raises(UserError, match="router: chose place 1 of 1"):
        dispatcher.take_due(0.0, 0, {0: lambda: snapshot([])})
