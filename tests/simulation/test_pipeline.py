"""Micro-batches on simulated lanes: what overlaps, what it is worth, and what holds in every run."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import DraftJob, Job
from spinbench.control.records.run_record import RunRecord
from spinbench.control.regret import decode_time_s
from spinbench.control.selector.random import RandomSelector
from spinbench.errors import UserError
from spinbench.metrics.identities import check_identities
from spinbench.metrics.lanes import bubble_share, lane_occupancy
from spinbench.metrics.tables import tables_from_record
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from tests.control.made_costs import cost_model
from tests.simulation.simulated import StatedTimes, bernoulli, fixed, micro_batches, requests, simulate

SPLITS = ("by_drafter", "by_length", "round_robin")
PLACEMENTS = ("shared", "drafters_together", "own_devices")


class ByRow:
    """The first request by the first drafter, the second by the second."""

    needs_confidence = False

    def __init__(self, setting) -> None: ...

    def choose(self, context):
        return context.rows % 2

    def observe(self, outcome) -> None: ...


def jobs_of(record: RunRecord) -> list[tuple[str, float, float]]:
    spans = record.spans
    return list(zip(spans.lane, spans.start_s.tolist(), spans.end_s.tolist(), strict=True))


def two_requests(placement, depth: int, **changes) -> RunRecord:
    # nothing is ever accepted, so three tokens are a prefill and two rounds; the last round may emit one token: no draft
    trace = requests(2, 3)
    return simulate(
        trace, bernoulli(trace, {"a": 0.0, "b": 0.0}), StatedTimes(prefill_s=1, verify_s=1, draft_token_s=2, **changes),
        infos=[DrafterInfo("a", "model"), DrafterInfo("b", "model")], selector=ByRow, draft_length=1, max_num_seqs=2,
        pipeline=micro_batches(depth), placement=placement,
    )  # fmt: skip


def test_lanes_overlap_by_hand():
    # both drafters begin when the prefill ends; the target verifies one micro-batch behind the other, and the second
    # round of each is a verification alone: 1 + 2 + 1 + 1 + 1 + 1 = 7, the target idle while both draft: 2 of 7
    record = two_requests("own_devices", 2)
    assert jobs_of(record) == [
        ("target", 0, 1), ("a", 1, 3), ("b", 1, 3), ("target", 3, 4), ("target", 4, 5), ("target", 5, 6), ("target", 6, 7),
    ]  # fmt: skip
    assert record.rounds.row.tolist() == [0, 1, 0, 1]
    tables = tables_from_record(record)
    assert lane_occupancy(tables) == pytest.approx({"target": 5 / 7, "a": 2 / 7, "b": 2 / 7})
    assert bubble_share(tables) == pytest.approx(2 / 7)


def test_drafters_on_one_device_take_turns():
    # b drafts behind a, while the target verifies the first round of a, then the second: 1 + 2 + 2 + 1 + 1 = 7
    record = two_requests("drafters_together", 2)
    assert jobs_of(record) == [
        ("target", 0, 1), ("a", 1, 3), ("target", 3, 4), ("b", 3, 5), ("target", 4, 5), ("target", 5, 6), ("target", 6, 7),
    ]  # fmt: skip


def test_on_one_device_nothing_overlaps():
    # 1 + 2 + 2 + 4 verifications
    record = two_requests("shared", 2)
    assert record.end_s == 9
    assert (record.spans.start_s[1:] >= record.spans.end_s[:-1]).all()


def test_a_serial_round_drafts_side_by_side_on_own_devices():
    # 1 + 2 + 1 + 1
    record = two_requests("own_devices", 1)
    assert jobs_of(record) == [("target", 0, 1), ("a", 1, 3), ("b", 1, 3), ("target", 3, 4), ("target", 4, 5)]


def test_there_is_one_host():
    # a and b end at the same time; the host takes half a second for each result, so the verification of b is handed
    # out at 4.5, when that of a is running (4 to 5): both wait for the host, one also for the lane
    record = two_requests("own_devices", 2, gap_s=0.5)
    # the prefill ends at 1 and its result is taken in by 1.5; a and b draft 1.5 to 3.5; verify a is handed out at 4
    assert jobs_of(record)[:5] == [
        ("target", 0, 1), ("a", 1.5, 3.5), ("b", 1.5, 3.5), ("target", 4, 5), ("target", 5, 6),
    ]  # fmt: skip


def test_newcomers_are_prefilled_between_verifications():
    trace = requests(2, [9, 2], arrivals_s=[0.0, 2.5])
    record = simulate(
        trace, bernoulli(trace, {"a": 0.0}), StatedTimes(prefill_s=1, verify_s=1, draft_token_s=2), selector=fixed("a"),
        draft_length=1, max_num_seqs=2, pipeline=micro_batches(2), placement="own_devices",
    )  # fmt: skip
    # the first drafts from 1 to 3, and the second arrives meanwhile: its prefill does not wait for the end of the round
    assert ("target", 2.5, 3.5) in jobs_of(record)
    late = next(one for one in record.requests if one.request_id == "r1")
    assert late.first_token_s == 3.5


class PerRequestTimes:
    """Each request costs its own, however many share a job; nothing is fixed, and the host takes no time."""

    warnings = ()

    def __init__(self, draft_s: float, verify_s: float, key_s: float, prefill_s: float, catch_up_s: float) -> None:
        self._of = {"VerifyJob": verify_s, "PrefillJob": prefill_s, "CatchUpJob": catch_up_s}
        self._draft_s, self._key_s = draft_s, key_s

    def job_s(self, job: Job) -> float:
        keys_s = self._key_s * int(job.spans.stop.sum())
        if isinstance(job, DraftJob):
            return self._draft_s * int(job.num_speculative_tokens.sum()) + keys_s
        return self._of[type(job).__name__] * len(job.spans) + keys_s

    def gap_s(self, job: Job) -> float:
        return 0.0


seconds = st.floats(0.0, 2.0)


@settings(max_examples=60, deadline=None)
@given(
    costs=st.tuples(seconds, st.floats(0.01, 2.0), st.floats(0, 0.01), seconds, seconds), depth=st.integers(2, 9),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), split=st.sampled_from(SPLITS), rate=st.floats(0, 1),
    max_num_seqs=st.integers(1, 8), k=st.integers(0, 5),
)  # fmt: skip
def test_overlap_is_never_slower_where_nothing_is_shared(costs, depth, lengths, split, rate, max_num_seqs, k):
    """Serial: all work, one job after another. A pipeline with the drafter on its own device does the same work (costs
    belong to requests alone, and what is accepted does not depend on who shares a round) and something is always being
    done, so it cannot take longer. With a fixed part in a job this is not so: see the test below."""
    trace = requests(len(lengths), lengths)
    streams = bernoulli(trace, {"d": rate}, seed=3)

    def end_s(**pipeline) -> float:
        return simulate(
            trace, streams, PerRequestTimes(*costs), selector=fixed(), draft_length=k, max_num_seqs=max_num_seqs,
            placement="own_devices", **pipeline,
        ).end_s  # fmt: skip

    assert end_s(pipeline=micro_batches(depth, split)) <= end_s() + 1e-9


def test_where_a_job_costs_the_same_for_few_a_pipeline_may_lose():
    # nothing is accepted: 10 rounds. Serial, drafts 1 s, verifications 5 s: 10 * 6. In two micro-batches the target
    # verifies twice as often: 2 * 10 * 5, behind the first draft
    trace = requests(4, 12)
    serial, two = (
        simulate(
            trace, bernoulli(trace, {"d": 0.0}), StatedTimes(prefill_s=0, verify_s=5, draft_token_s=1), selector=fixed(),
            draft_length=1, max_num_seqs=4, pipeline=micro_batches(depth), placement="own_devices",
        ).end_s
        for depth in (1, 2)
    )  # fmt: skip
    # the 11th round of each emits the last token without a draft
    assert serial == 10 * 6 + 5
    assert two == 1 + 2 * 11 * 5


def test_the_depth_that_pays_is_found():
    # by requests alone drafting takes 4 and verifying 4: at depth 2 both lanes are always busy, deeper gains nothing
    trace = requests(64, 40)
    streams = bernoulli(trace, {"d": 0.5}, seed=2)
    times = PerRequestTimes(0.25, 1.0, 0.0, 0.0, 0.0)
    ends = {
        depth: simulate(
            trace, streams, times, selector=fixed(), draft_length=4, max_num_seqs=8, placement="own_devices",
            pipeline=micro_batches(depth, passes_per_trial=4),
        ).end_s
        for depth in (1, 2, 3, "adaptive")
    }  # fmt: skip
    assert ends[1] > 1.8 * ends[2]
    assert ends["adaptive"] < 1.1 * ends[2]


INFOS = (
    DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("a+prompt_lookup", "lookup_then_model"),
    DrafterInfo("prompt_lookup", "prompt_lookup"),
)  # fmt: skip
LAW = SyntheticLaw(
    (DifficultyClass("all", 1.0, {"a": (0.7,), "b": (0.5,)}, LookupLaw((0.2, 0.1, 0.1), (0.2, 0.5, 0.9))),)
)
MODEL = cost_model(INFOS)


def on_device(lane: str, placement: str) -> str:
    if lane == "target" or placement == "shared":
        return "first"
    return "second" if placement == "drafters_together" else lane


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_is_lost_and_no_device_does_two_things(data):
    count = data.draw(st.integers(1, 9))
    lengths = [data.draw(st.integers(1, 25)) for _ in range(count)]
    arrivals = sorted(data.draw(st.floats(0, 0.1)) for _ in range(count))
    trace, placement = requests(count, lengths, arrivals), data.draw(st.sampled_from(PLACEMENTS))
    largest = -(-(3 + max(lengths)) // 4)
    record = simulate(
        trace, synthetic_streams(trace, tuple(info.name for info in INFOS), LAW, seed=data.draw(st.integers(0, 99))),
        MODEL, infos=INFOS, selector=lambda setting: RandomSelector(setting, rounds_per_choice=1),
        draft_length=data.draw(st.integers(0, 6)), max_num_seqs=data.draw(st.integers(1, 6)), block_size=4,
        num_kv_blocks=largest + data.draw(st.integers(0, 6)), placement=placement,
        pipeline=micro_batches(data.draw(st.sampled_from([1, 2, 3, 9, "adaptive"])), data.draw(st.sampled_from(SPLITS))),
    )  # fmt: skip
    assert record.complete
    check_identities(record, [request.id for request in trace])
    assert {one.request_id: one.output_tokens for one in record.requests} == dict(
        zip((request.id for request in trace), lengths, strict=True)
    )
    assert all(one.num_prefill_emitted_tokens == 1 + one.num_preemptions for one in record.requests)
    # events come in the order of their ends
    assert (np.diff(record.spans.end_s) >= 0).all()
    jobs = sorted((on_device(lane, placement), start, end) for lane, start, end in jobs_of(record))
    assert all(a[0] != b[0] or b[1] >= a[2] - 1e-12 for a, b in itertools.pairwise(jobs))
    spans = record.spans
    for row in range(count):
        # whatever happens to a request happens at one place at a time, a catch-up and its draft included
        places = [p for p in range(len(spans)) if row in spans.rows[spans.first_row[p] : spans.first_row[p + 1]]]
        times = sorted((spans.start_s[place], spans.end_s[place]) for place in places)
        assert all(after[0] >= before[1] - 1e-12 for before, after in itertools.pairwise(times))


def test_overlapping_runs_are_not_held_against_the_oracle():
    for record in (two_requests("own_devices", 2), two_requests("shared", 2)):
        with pytest.raises(UserError, match="jobs or rounds of this run overlapped"):
            decode_time_s(record)
    assert decode_time_s(two_requests("shared", 1)).sum() == 2 + 2 + 1 + 1


def test_catch_up_runs_on_its_drafters_lane():
    trace = requests(2, 200)
    record = simulate(
        trace, bernoulli(trace, {"a": 0.5, "b": 0.5}), StatedTimes(catch_up_s=0.5, draft_token_s=0.1),
        infos=INFOS[:2], selector=lambda setting: RandomSelector(setting, rounds_per_choice=8), max_num_seqs=2,
        pipeline=micro_batches(2), placement="own_devices",
    )  # fmt: skip
    lanes = [lane for lane, kind in zip(record.spans.lane, record.spans.kind, strict=True) if kind == "catch_up"]
    assert set(lanes) == {"a", "b"}
