"""Many replicas in one simulation: nothing is lost or done twice, and one replica behind a router is a single server."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.records.run_record import RunRecord
from spinbench.control.router.least_outstanding_tokens import LeastOutstandingTokensRouter
from spinbench.control.router.protocol import Router
from spinbench.control.router.round_robin import RoundRobinRouter
from spinbench.control.router.shortest_predicted_wait import ShortestPredictedWaitRouter
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.metrics.definitions import METRICS
from spinbench.metrics.identities import check_tables
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import RunTables, tables_from_record
from spinbench.metrics.timeline import chrome_trace
from spinbench.simulation.replicas import simulated_replicas
from spinbench.simulation.session import simulated_loop
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.simulation.simulated import PROMPT_TOKENS, StatedTimes, bernoulli, micro_batches, requests
from tests.simulation.small_setup import digest

RATES = {"a": 0.6, "b": 0.3}
INFOS = tuple(DrafterInfo(name, "model") for name in RATES)
TIMES = StatedTimes(prefill_s=0.5, verify_s=0.2, draft_token_s=0.01, catch_up_s=0.05, gap_s=0.003)
ROUTERS = (RoundRobinRouter, LeastOutstandingTokensRouter, ShortestPredictedWaitRouter)


def setting_of(trace: list[Request], **changes: Any) -> LoopSetting:
    rng = np.random.default_rng(0)
    setting = LoopSetting(
        drafters=INFOS,
        selector=RoundRobinSelector(SelectorSetting(INFOS, 3, len(trace), rng, 3), rounds_per_choice=1),
        draft_length=FixedDraftLength(3),
        layout=PackedLayout(),
        eos_token_ids=frozenset(),
        num_kv_blocks=8,
        block_size=16,
        max_num_seqs=3,
        max_num_batched_tokens=64,
    )
    return replace(setting, **changes)


def serve(
    trace: list[Request], num_replicas: int, router: Router, pattern: ArrivalPattern, **changes: Any
) -> RunRecord:
    lengths = {request.id: PROMPT_TOKENS for request in trace}
    replicas = [setting_of(trace, **changes) for _ in range(num_replicas)]
    streams = bernoulli(trace, RATES)
    return simulated_replicas(replicas, router, ArrivalQueue(trace, pattern), streams, lengths, TIMES).run()


def made_trace(count: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    return requests(count, rng.integers(1, 40, count).tolist(), np.sort(rng.uniform(0, 10, count)).tolist())


@pytest.mark.parametrize("placement", ["shared", "own_devices"])
@pytest.mark.parametrize("pattern", [ArrivalPattern("trace"), ArrivalPattern("trace", max_concurrency=2)])
@pytest.mark.parametrize("changes", [{}, {"switching": "ahead"}, {"pipeline": 2}, {"num_kv_blocks": 4}])
def test_one_replica_is_a_single_server(
    placement: PlacementKind, pattern: ArrivalPattern, changes: dict[str, Any]
) -> None:
    trace = made_trace(20, 1)
    if "pipeline" in changes:
        changes = {"pipeline": micro_batches(2)}
    made = {"placement": Placement(placement), **changes}
    lengths = {request.id: PROMPT_TOKENS for request in trace}
    single = simulated_loop(
        setting_of(trace, **made), ArrivalQueue(trace, pattern), bernoulli(trace, RATES), lengths, TIMES
    ).run()
    for make in ROUTERS:
        assert digest(serve(trace, 1, make(), pattern, **made)) == digest(single)


@pytest.mark.parametrize("make", ROUTERS)
@given(
    st.integers(1, 12), st.integers(2, 4), st.integers(0, 99), st.sampled_from(["shared", "own_devices"]),
    st.sampled_from([None, 1, 5]), st.sampled_from([4, 8]),
)  # fmt: skip
@settings(max_examples=5, deadline=None)
def test_every_request_is_served_once_by_one_replica(
    make: type[Router], count: int, num_replicas: int, seed: int, placement: PlacementKind, cap: int | None, blocks: int
) -> None:
    trace = made_trace(count, seed)
    pattern = ArrivalPattern("trace", max_concurrency=cap)
    record = serve(trace, num_replicas, make(), pattern, placement=Placement(placement), num_kv_blocks=blocks)
    tables = tables_from_record(record)
    check_tables(tables, True, [request.id for request in trace])
    served = {request.request_id: request for request in record.requests}
    for request in trace:
        assert served[request.id].output_tokens == request.max_new_tokens
        if cap is None:
            assert served[request.id].arrival_s == request.arrival_s
    # a request's rounds and jobs are all at its replica, and rounds of different replicas have different numbers
    of_request = tables.requests.set_index("request_id")["replica"]
    jobs = tables.spans.explode("request_ids")
    assert (jobs["replica"].to_numpy() == of_request[jobs["request_ids"]].to_numpy()).all()
    assert (tables.rounds.groupby("round_index")["replica"].nunique() == 1).all()
    if cap is not None:
        assert summarise(tables)["max_concurrent_requests"] <= cap
    # no replica serves more at once than its batch has places
    for own in tables.by_replica:
        assert (own.rounds["batch_size"] <= 3).all()


def test_replicas_work_at_the_same_time() -> None:
    trace = requests(6, 30)
    lasts = [
        serve(trace, n, RoundRobinRouter(), ArrivalPattern("all_at_once"), max_num_seqs=1).end_s for n in (1, 2, 3)
    ]
    # six requests of one length, of which not all drafts are as good, one after another on each replica
    assert lasts[0] > 1.7 * lasts[1]
    assert lasts[0] > 2.3 * lasts[2]


def test_routers_that_look_spread_uneven_work_better() -> None:
    # in turn, two replicas get all long and all short ones
    trace = requests(24, [40, 2] * 12, np.linspace(0, 48, 24).tolist())
    means = {}
    for make in ROUTERS:
        record = serve(trace, 2, make(), ArrivalPattern("trace"), max_num_seqs=1)
        means[make] = np.mean([one.first_token_s - one.arrival_s for one in record.requests if one.first_token_s])
    assert means[LeastOutstandingTokensRouter] < 0.8 * means[RoundRobinRouter]
    assert means[ShortestPredictedWaitRouter] < 0.8 * means[RoundRobinRouter]


@pytest.fixture(scope="module")
def three() -> RunTables:
    return tables_from_record(serve(made_trace(20, 2), 3, RoundRobinRouter(), ArrivalPattern("trace")))


def test_figures_by_replica_add_up(three: RunTables) -> None:
    summary: dict[str, Any] = summarise(three, {"ttft": 1000.0})
    assert list(summary)[: len(METRICS)] == [metric.key for metric in METRICS]
    for key in ("num_prompts", "total_output_tokens", "output_throughput", "request_goodput"):
        assert sum(summary[f"{key}_per_replica"].values()) == pytest.approx(summary[key])
    assert np.mean(list(summary["target_occupancy_per_replica"].values())) == pytest.approx(
        summary["lane_occupancy"]["target"]
    )
    tokens = summary["total_output_tokens_per_replica"].values()
    assert summary["output_imbalance"] == pytest.approx(max(tokens) / np.mean(list(tokens)))
    assert 0 <= summary["bubble_share"] < 1


def test_each_replica_has_its_own_lanes_in_the_timeline(three: RunTables) -> None:
    events = chrome_trace(three)["traceEvents"]
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {
        "replica 0", "replica 1", "replica 2"
    }  # fmt: skip
    jobs = pd.DataFrame([event for event in events if event["ph"] == "X"]).sort_values("ts")
    for _, lane in jobs.groupby(["pid", "tid"]):
        assert (lane["ts"].to_numpy()[1:] >= (lane["ts"] + lane["dur"]).to_numpy()[:-1] - 0.01).all()


def test_progress_is_that_of_all() -> None:
    trace = made_trace(12, 3)
    told: list[Progress] = []
    lengths = {request.id: PROMPT_TOKENS for request in trace}
    queue = ArrivalQueue(trace, ArrivalPattern("trace"))
    simulated_replicas(
        [setting_of(trace) for _ in range(2)], RoundRobinRouter(), queue, bernoulli(trace, RATES), lengths, TIMES, told.append
    ).run()  # fmt: skip
    assert told[-1] == Progress(12, sum(request.max_new_tokens for request in trace))
    assert [one.finished_requests for one in told] == sorted(one.finished_requests for one in told)
