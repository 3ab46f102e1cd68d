"""Many replicas on real models: here in threads of one process, so that a test can say who is lost, and when."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from spinbench.control.records.run_record import RunRecord
from spinbench.control.router.dispatcher import Dispatcher
from spinbench.control.router.least_outstanding_tokens import LeastOutstandingTokensRouter
from spinbench.control.router.protocol import Router
from spinbench.control.router.round_robin import RoundRobinRouter
from spinbench.control.router.shortest_predicted_wait import ShortestPredictedWaitRouter
from spinbench.errors import UserError
from spinbench.metrics.identities import check_tables
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record
from spinbench.runtime.body import TorchBody, make_body
from spinbench.runtime.replicas.replica import LiveReplica, ReplicaReport
from spinbench.runtime.replicas.replicas import LiveReplicas, ReplicaLost, WallClock
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.runtime import serving, tiny_models

TRACE = serving.requests(9, max_new_tokens=12)
PROMPTS = {request.id: request.prompt_token_ids or () for request in TRACE}
LENGTHS = {name: len(ids) for name, ids in PROMPTS.items()}
NUM_PLACES = 2
IDS = [request.id for request in TRACE]
TRACED = ArrivalPattern("trace")


@dataclass
class ThreadReplica:
    """A replica in a thread, which is as good as gone once it was sent to `dies_after` times."""

    live: LiveReplica
    pool: ThreadPoolExecutor
    dies_after: int = 10**9
    dies_at_the_end: bool = False
    num_sent: int = 0
    received: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._served = self.pool.submit(self.live.serve)

    def put(self, requests: Sequence[tuple[Request, float]]) -> None:
        self.num_sent += 1
        self.received.extend(request.id for request, _ in requests)
        self.live.put(requests)

    def ask(self) -> None:
        if self.num_sent >= self.dies_after:
            raise ReplicaLost("its process is gone")

    def report(self) -> ReplicaReport:
        if self._served.done():
            self._served.result()
        return self.live.report()

    def stop(self) -> None:
        self.live.stop()

    def record(self) -> RunRecord:
        if self.dies_at_the_end:
            self.live.stop()
            raise ReplicaLost("its process is gone")
        self.live.close()
        return self._served.result()

    def drop(self) -> None:
        self.live.stop()


class EndedClock(WallClock):
    """A clock at which Ctrl-C comes after some looks."""

    def __init__(self, num_looks: int) -> None:
        super().__init__()
        self._left = num_looks

    def next_event(self, deadline_s: float | None) -> None:
        self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt
        super().next_event(deadline_s)


@functools.cache
def plain() -> dict[str, tuple[int, ...]]:
    return serving.outputs(serving.serve(tiny_models.target(), [], TRACE, selector="plain"))


def a_body() -> tuple[TorchBody, dict[str, object]]:
    target, models = tiny_models.shared()
    setting = serving.loop_setting(target, models, len(TRACE), selector="round_robin", max_num_seqs=NUM_PLACES)
    by_name = {model.name: model for model in models}
    drafters = [(info, by_name.get(info.name.removesuffix("+prompt_lookup"))) for info in setting.drafters]
    body = make_body(target, drafters, serving.GREEDY, setting.num_kv_blocks, setting.block_size)
    return body, {"setting": setting}


@contextmanager
def replicas(count: int, clock: WallClock, **deaths: int) -> Iterator[list[ThreadReplica]]:
    """`r1=3`: replica 1 is lost after it was sent to three times."""
    order = ArrivalQueue(TRACE, TRACED).requests
    with ThreadPoolExecutor(count) as pool:
        made = []
        for index in range(count):
            body, parts = a_body()
            live = LiveReplica(parts["setting"], body, order, PROMPTS, clock.start_s)  # type: ignore[arg-type]
            made.append(ThreadReplica(live, pool, deaths.get(f"r{index}", 10**9)))
        try:
            yield made
        finally:
            for one in made:
                one.live.stop()


def run(
    made: list[ThreadReplica],
    clock: WallClock,
    router: Router,
    pattern: ArrivalPattern = TRACED,
    lost: list[str] | None = None,
) -> RunRecord:
    dispatcher = Dispatcher(ArrivalQueue(TRACE, pattern), router, LENGTHS, NUM_PLACES)
    return LiveReplicas(made, dispatcher, clock, lost=lost).run()


@pytest.mark.parametrize("make", [RoundRobinRouter, LeastOutstandingTokensRouter, ShortestPredictedWaitRouter])
@pytest.mark.parametrize("cap", [None, 3])
def test_answers_are_those_of_one_server_and_each_is_given_once(make: type[Router], cap: int | None) -> None:
    clock = WallClock()
    with replicas(3, clock) as made:
        record = run(made, clock, make(), ArrivalPattern("trace", max_concurrency=cap))
        assert sorted(name for one in made for name in one.received) == sorted(IDS)
        assert all(one.received for one in made)
    tables = tables_from_record(record)
    check_tables(tables, record.complete, IDS)
    assert serving.outputs(record) == plain()
    for index, one in enumerate(made):
        assert sorted(tables.requests.loc[tables.requests["replica"] == index, "request_id"]) == sorted(one.received)
    arrived = dict(zip(tables.requests["request_id"], tables.requests["arrival_s"], strict=True))
    if cap is None:
        assert arrived == {request.id: request.arrival_s for request in TRACE}
    else:
        assert summarise(tables)["max_concurrent_requests"] <= cap


def test_what_a_lost_replica_had_is_served_again_from_its_first_arrival() -> None:
    clock, lost = WallClock(), []
    with replicas(3, clock, r1=1) as made:
        record = run(made, clock, RoundRobinRouter(), lost=lost)
    gone = made[1].received
    assert gone
    tables = tables_from_record(record)
    check_tables(tables, True, IDS)
    assert serving.outputs(record) == plain()
    assert 1 not in set(tables.requests["replica"])
    assert record.num_replicas == 3
    assert {request.request_id: request.arrival_s for request in record.requests} == {
        request.id: request.arrival_s for request in TRACE
    }
    assert len(lost) == 1
    assert "replica 1 was lost" in lost[0]
    assert f"its {len(gone)} requests were served again" in lost[0]


def test_two_that_are_lost_at_once() -> None:
    clock, lost = WallClock(), []
    with replicas(3, clock, r0=1, r2=1) as made:
        record = run(made, clock, LeastOutstandingTokensRouter(), ArrivalPattern("all_at_once"), lost)
    check_tables(tables_from_record(record), True, IDS)
    assert serving.outputs(record) == plain()
    assert sorted(made[1].received) == sorted(IDS)
    assert len(lost) == 2


def test_the_loss_of_all_is_one_clear_error() -> None:
    clock = WallClock()
    with replicas(2, clock, r0=1, r1=1) as made, pytest.raises(UserError, match=r"all 2 replicas were lost.*is gone"):
        run(made, clock, RoundRobinRouter())


def test_a_loss_at_the_very_end_is_one_clear_error() -> None:
    clock = WallClock()
    with replicas(2, clock) as made:
        made[1].dies_at_the_end = True
        with pytest.raises(
            UserError, match=r"replica 1 of 2 was lost while its record was fetched, and its \d+ requests"
        ):
            run(made, clock, RoundRobinRouter())


def test_ctrl_c_keeps_what_is_finished() -> None:
    clock = EndedClock(4)
    with replicas(2, clock) as made:
        record = run(made, clock, RoundRobinRouter(), ArrivalPattern("all_at_once"))
    assert not record.complete
    check_tables(tables_from_record(record), False)
    answers = plain()
    for request in record.requests:
        assert request.output_token_ids == answers[request.request_id][: request.output_tokens]
    assert any(request.finish_reason == "aborted" for request in record.requests)
