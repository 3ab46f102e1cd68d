"""The simulator against results that are known in closed form, and laws that hold in every run."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.arrays import FloatArray
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.random import RandomSelector
from spinbench.metrics.identities import check_identities
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from spinbench.workload.arrivals import ArrivalPattern
from spinbench.workload.request import Request
from tests.control.made_costs import cost_model
from tests.simulation.simulated import LAYOUTS, StatedTimes, bernoulli, fixed, requests, simulate

SERVICE_S = 0.5


def waits_s(record: RunRecord) -> FloatArray:
    """From arrival to admission, in the order of arrival."""
    by_arrival = sorted(record.requests, key=lambda request: request.arrival_s)
    return np.array([(one.first_scheduled_s or 0.0) - one.arrival_s for one in by_arrival])


def serve_prefills(count: int, utilisation: float, seed: int) -> RunRecord:
    """One server, Poisson arrivals, every service the same: answers of one token, which a prefill emits."""
    trace = requests(count, 1)
    pattern = ArrivalPattern("gamma", request_rate=utilisation / SERVICE_S, seed=seed)
    return simulate(trace, bernoulli(trace, {}), StatedTimes(prefill_s=SERVICE_S), pattern=pattern)


@pytest.mark.parametrize(("utilisation", "count"), [(0.3, 3000), (0.7, 9000)])
def test_waiting_is_that_of_an_m_d_1_queue(utilisation, count):
    batches = 30
    waits = waits_s(serve_prefills(count, utilisation, seed=1))
    # Pollaczek-Khinchine with a constant service time
    expected_s = utilisation * SERVICE_S / (2 * (1 - utilisation))
    # waits follow each other, so the error is that of the means of long stretches
    error_s = waits.reshape(batches, -1).mean(1).std(ddof=1) / batches**0.5
    assert error_s < 0.1 * expected_s
    assert abs(waits.mean() - expected_s) < 3 * error_s
    # who arrives finds the server free with probability 1 - rho
    assert (waits < 1e-9).mean() == pytest.approx(1 - utilisation, abs=0.02)


def test_each_wait_follows_from_the_one_before():
    record = serve_prefills(500, 0.9, seed=2)
    arrivals = np.sort([request.arrival_s for request in record.requests])
    waits = [0.0]
    for gap in np.diff(arrivals):
        waits.append(max(0.0, waits[-1] + SERVICE_S - gap))  # Lindley's recursion
    assert waits_s(record) == pytest.approx(waits, abs=1e-9)


@pytest.mark.parametrize(
    ("rate", "k", "draft_token_s", "num_tokens"),
    # where nothing is accepted, all rounds are alike
    [(0.8, 4, 0.05, 6000), (0.5, 2, 0.3, 3000), (0.95, 8, 0.02, 6000), (0.0, 3, 0.1, 300)],
)
def test_speed_up_is_the_closed_form(rate, k, draft_token_s, num_tokens):
    # Leviathan et al. (arXiv 2211.17192), theorem 3.8, with a verification as the unit of time
    trace = requests(1, num_tokens + 1)
    streams = bernoulli(trace, {"d": rate}, seed=4)
    record = simulate(trace, streams, StatedTimes(draft_token_s=draft_token_s), selector=fixed(), draft_length=k)
    decoding_s, plain_s = record.end_s - 1.0, float(num_tokens)  # the prefill takes 1 s and emits the first token
    per_round = (1 - rate ** (k + 1)) / (1 - rate)
    expected = per_round / (k * draft_token_s + 1)
    emitted = np.arange(1, k + 2)
    probability = rate ** (emitted - 1) * np.where(emitted <= k, 1 - rate, 1.0)
    deviation = np.sqrt(probability @ (emitted - per_round) ** 2)
    # relative error of a mean over all rounds, and a last round that is cut short
    tolerance = 3 * deviation / per_round / len(record.rounds) ** 0.5 + 1.0 / len(record.rounds)
    assert tolerance < 0.04
    assert plain_s / decoding_s == pytest.approx(expected, rel=tolerance)


def duration_s(rate: float = 0.6, draft_token_s: float = 0.1, request_rate: float = 2.0, k: int = 4) -> float:
    trace = requests(6, [20, 5, 30, 12, 1, 9])
    pattern = ArrivalPattern("gamma", request_rate=request_rate, seed=5)
    streams = bernoulli(trace, {"d": rate}, seed=6)
    times = StatedTimes(draft_token_s=draft_token_s, gap_s=0.01)
    return simulate(trace, streams, times, selector=fixed(), draft_length=k, pattern=pattern).end_s


two_shares = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@settings(max_examples=25, deadline=None)
@given(rates=two_shares, k=st.integers(1, 8))
def test_what_is_accepted_more_often_is_never_slower(rates: Sequence[float], k):
    # the seed is the same, so every token that is accepted at the lower rate is at the higher one, too
    low, high = rates
    assert duration_s(rate=high, k=k) <= duration_s(rate=low, k=k) + 1e-9


@settings(max_examples=15, deadline=None)
@given(costs=two_shares)
def test_a_slower_drafter_is_never_faster(costs: Sequence[float]):
    low, high = costs
    assert duration_s(draft_token_s=low) <= duration_s(draft_token_s=high) + 1e-9


@settings(max_examples=15, deadline=None)
@given(rates=st.tuples(st.floats(0.01, 5), st.floats(0.01, 5)).map(sorted))
def test_what_arrives_faster_is_done_sooner(rates: Sequence[float]):
    low, high = rates
    assert duration_s(request_rate=high) <= duration_s(request_rate=low) + 1e-9


@pytest.mark.parametrize("max_num_seqs", [1, 3])
def test_below_capacity_throughput_is_the_arrival_rate(max_num_seqs):
    throughputs = []
    for request_rate in (0.02, 0.04, 0.08):
        trace = requests(100, 6)
        pattern = ArrivalPattern("gamma", request_rate=request_rate, burstiness=float("inf"))
        record = simulate(trace, bernoulli(trace, {}), StatedTimes(), pattern=pattern, max_num_seqs=max_num_seqs)
        throughputs.append(100 / record.end_s)
    # 6 s a request, the last of which ends the run: 100 / (100 / rate + 6)
    assert throughputs == pytest.approx([100 / (100 / rate + 6) for rate in (0.02, 0.04, 0.08)])


def same_run(first: RunRecord, second: RunRecord) -> bool:
    """Whether two runs did the same jobs at the same times for the same tokens."""
    spans = all(
        np.array_equal(getattr(first.spans, name), getattr(second.spans, name))
        for name in ("kind", "lane", "start_s", "end_s", "rows", "first_row", "num_tokens", "useful_cells")
    )
    return spans and first.requests == second.requests and first.end_s == second.end_s


@pytest.mark.parametrize("max_num_seqs", [1, 3])
def test_without_drafts_it_is_plain_decoding_exactly(max_num_seqs):
    trace = requests(7, [1, 9, 4, 20, 2, 13, 6], arrivals_s=[0, 0, 0.001, 0.002, 0.002, 0.05, 0.9])
    infos = [DrafterInfo("d", "model")]
    model = cost_model(infos)
    with_drafters, without = bernoulli(trace, {"d": 0.9}), bernoulli(trace, {})
    no_drafters = simulate(trace, without, model, max_num_seqs=max_num_seqs)
    not_asked = simulate(trace, with_drafters, model, max_num_seqs=max_num_seqs)
    asked_for_none = simulate(
        trace, with_drafters, model, selector=fixed(), draft_length=0, max_num_seqs=max_num_seqs
    )  # fmt: skip
    assert same_run(no_drafters, not_asked)
    assert same_run(no_drafters, asked_for_none)
    assert set(no_drafters.spans.kind) == {"prefill", "verify"}
    assert (no_drafters.rounds.accepted == 0).all()
    speculating = simulate(trace, with_drafters, model, selector=fixed(), max_num_seqs=max_num_seqs)
    assert not same_run(no_drafters, speculating)


INFOS = (
    DrafterInfo("a", "model"),
    DrafterInfo("a+prompt_lookup", "lookup_then_model"),
    DrafterInfo("prompt_lookup", "prompt_lookup"),
)
LAW = SyntheticLaw((DifficultyClass("all", 1.0, {"a": (0.7,)}, LookupLaw((0.2, 0.1, 0.1), (0.2, 0.5, 0.9))),))
MODEL: CostModel = cost_model(INFOS)


def check_conservation(record: RunRecord, trace: Sequence[Request]) -> None:
    """What holds in every run that is complete."""
    assert record.complete
    check_identities(record, [request.id for request in trace])
    limits = {request.id: request.max_new_tokens for request in trace}
    assert {one.request_id: one.output_tokens for one in record.requests} == limits
    emitted = sum(one.num_prefill_emitted_tokens for one in record.requests)
    emitted += int((record.rounds.accepted + 1).sum())
    assert emitted == sum(limits.values())
    for one in record.requests:
        assert one.num_prefill_emitted_tokens == 1 + one.num_preemptions
    # all models share the device: no job starts before the one before it ended, whatever their lanes
    spans = record.spans
    assert (spans.start_s[1:] >= spans.end_s[:-1] - 1e-12).all()
    busy_s = float((spans.end_s - spans.start_s).sum())
    assert 0 < busy_s <= record.end_s - record.start_s + 1e-9


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_nothing_is_lost_or_done_twice(data):
    count = data.draw(st.integers(1, 8))
    lengths = [data.draw(st.integers(1, 25)) for _ in range(count)]
    arrivals = sorted(data.draw(st.floats(0, 0.1)) for _ in range(count))
    trace = requests(count, lengths, arrivals)
    # room for the longest alone, and perhaps some more: so there is preemption
    largest = -(-(3 + max(lengths)) // 4)
    record = simulate(
        trace, synthetic_streams(trace, tuple(info.name for info in INFOS), LAW, seed=data.draw(st.integers(0, 99))),
        MODEL, infos=INFOS, selector=lambda setting: RandomSelector(setting, rounds_per_choice=1),
        draft_length=data.draw(st.integers(0, 6)), max_num_seqs=data.draw(st.integers(1, 5)),
        layout=LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))], block_size=4,
        num_kv_blocks=largest + data.draw(st.integers(0, 6)), seed=data.draw(st.integers(0, 99)),
    )  # fmt: skip
    check_conservation(record, trace)


def test_preemption_costs_time_and_no_token():
    trace = requests(6, 30)
    streams = synthetic_streams(trace, ("a", "a+prompt_lookup", "prompt_lookup"), LAW, seed=8)
    tight, roomy = (
        simulate(
            trace, streams, MODEL, infos=INFOS, selector=fixed("a"), max_num_seqs=6, block_size=4, num_kv_blocks=blocks
        )
        for blocks in (20, 200)
    )
    check_conservation(tight, trace)
    check_conservation(roomy, trace)
    assert sum(one.num_preemptions for one in tight.requests) > 0
    assert sum(one.num_preemptions for one in roomy.requests) == 0
    assert tight.end_s > roomy.end_s


def test_plain_decoding_by_hand():
    trace = requests(2, 5)
    record = simulate(trace, bernoulli(trace, {}), StatedTimes(prefill_s=3.0, gap_s=0.5), max_num_seqs=2)
    # two prefilled together, then 4 tokens each in step, half a second behind every job: 3 + 4 * 1 + 5 * 0.5
    assert record.spans.kind == ("prefill", *["verify"] * 4)
    assert record.end_s == 9.5
    assert [one.finish_s for one in record.requests] == [9.0, 9.0]
