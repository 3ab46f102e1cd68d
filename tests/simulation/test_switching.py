"""KV prepared ahead in simulated time: what it is worth, and that no drafter ever drafts upon KV that is not there."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, VerifyJob
from spinbench.control.jobs.result import VerifyResult
from spinbench.control.jobs.wrapped_body import WrappedBody
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.metrics.identities import check_identities
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from spinbench.workload.request import Request
from tests.simulation.drawn_trace import BLOCK_SIZE, drawn_trace
from tests.simulation.simulated import StatedTimes, bernoulli, micro_batches, simulate

INFOS = (
    DrafterInfo("a", "model"),
    DrafterInfo("b", "model"),
    DrafterInfo("prompt_lookup", "prompt_lookup"),
    DrafterInfo("a+prompt_lookup", "lookup_then_model"),
)
LAW = SyntheticLaw(
    (DifficultyClass("all", 1.0, {"a": (0.7,), "b": (0.5,)}, LookupLaw((0.2, 0.1, 0.1), (0.2, 0.5, 0.9))),)
)
PLACEMENTS = ("shared", "drafters_together", "own_devices")


def spin(setting: SelectorSetting) -> Selector:
    return SpinSelector(
        setting, rounds_per_slot=2, slots_per_epoch=3, exploring_slots=1, reward="draft_goodput", decay=1.0,
        prior_rounds=2, per_request=True, capacity=None,
    )  # fmt: skip


def by_turns(setting: SelectorSetting) -> Selector:
    return RoundRobinSelector(setting, rounds_per_choice=2)


def by_chance(setting: SelectorSetting) -> Selector:
    return RandomSelector(setting, rounds_per_choice=1)


def one_request(placement, switching, **times) -> RunRecord:
    # 60 + 9 tokens, nothing accepted: a prefill, seven rounds with a draft and one without
    trace = [Request("x", 0.0, 9, prompt_len_tokens=60, ignore_eos=True)]
    return simulate(
        trace, bernoulli(trace, {"a": 0.0, "b": 0.0}), StatedTimes(1, 3, 1, **times), infos=INFOS[:2],
        selector=by_turns, draft_length=1, placement=placement, switching=switching,
    )  # fmt: skip


def summary_of(record: RunRecord) -> dict:
    return summarise(tables_from_record(record))


@pytest.mark.parametrize("placement", ["drafters_together", "own_devices"])
def test_a_switch_does_not_wait_for_what_is_ready(placement):
    # drafters a a b b a a b: three switches, of which only the first finds more than 16 tokens missing
    on_demand, ahead = (one_request(placement, kind, catch_up_s=2) for kind in ("on_demand", "ahead"))
    before, after = summary_of(on_demand), summary_of(ahead)
    assert (before["num_switches"], after["num_switches"]) == (3, 3)
    assert before["mean_switch_stall_ms"] == pytest.approx(2000 / 3)
    assert after["mean_switch_stall_ms"] == after["p99_switch_stall_ms"] == 0
    assert on_demand.end_s == 1 + 2 + 7 * 4 + 2 + 3
    # b's catch-up runs beside a's second round
    assert ahead.end_s == 1 + 2 + 7 * 4 + 3


def test_on_one_device_the_same_work_is_only_moved():
    ends = {kind: one_request("shared", kind, catch_up_s=2).end_s for kind in ("on_demand", "ahead")}
    assert ends["ahead"] == ends["on_demand"]


def test_a_catch_up_that_is_too_long_is_waited_for_in_part():
    # on b's lane from the start of a's second round (7 s) to 7 + 10 = 17 s; the round is over at 7 + 4 = 11
    ahead = one_request("own_devices", "ahead", catch_up_s=10)
    # a's own catch-up in front of the first draft takes 10 s too, so all is 8 s later
    assert summary_of(ahead)["p99_switch_stall_ms"] == pytest.approx(6000 * 0.98)
    assert summary_of(ahead)["mean_switch_stall_ms"] == pytest.approx(6000 / 3)


class Audited(WrappedBody[Body]):
    """A body that keeps books of the KV which each drafter's jobs leave behind, lane by lane in order."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._held: dict[tuple[int, int], int] = defaultdict(int)
        """By request and drafter."""
        self._drafts: dict[int, tuple[int, int, int]] = {}
        """Of each request in a round: drafter, first drafted position, drafted tokens fed back."""

    def submit(self, job: Job) -> None:
        if isinstance(job, CatchUpJob):
            for row, start, stop in zip(
                *(column.tolist() for column in (job.spans.rows, job.spans.start, job.spans.stop)), strict=True
            ):
                assert start <= self._held[row, job.drafter], "a catch-up leaves a hole"
                self._held[row, job.drafter] = stop
        elif isinstance(job, DraftJob):
            self._book(job)
        super().submit(job)

    def _book(self, job: DraftJob) -> None:
        columns = (job.spans.rows, job.spans.start, job.spans.stop, job.num_speculative_tokens, job.by_lookup)
        for row, start, stop, length, by_lookup in zip(*(column.tolist() for column in columns), strict=True):
            self._drafts.pop(row, None)
            if not by_lookup:
                assert start <= self._held[row, job.drafter], "a draft upon phantom KV"
                self._held[row, job.drafter] = stop
                self._drafts[row] = job.drafter, stop, length - 1

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        done = super().next_event(deadline_s)
        if done is not None and isinstance(done.job, VerifyJob) and isinstance(done.result, VerifyResult):
            for row, emitted in zip(done.job.spans.rows.tolist(), done.result.num_emitted.tolist(), strict=True):
                if row in self._drafts:
                    drafter, stop, fed_back = self._drafts.pop(row)
                    self._held[row, drafter] = stop + min(emitted - 1, fed_back)
        return done

    def release(self, rows: IntArray) -> None:
        for row, drafter in list(self._held):
            if row in rows:
                del self._held[row, drafter]
        super().release(rows)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_drafter_relies_on_kv_that_is_not_there(data):
    trace, num_kv_blocks = drawn_trace(data)
    record = simulate(
        trace, synthetic_streams(trace, tuple(info.name for info in INFOS), LAW, seed=data.draw(st.integers(0, 99))),
        # catch-ups that outlive rounds, and requests
        StatedTimes(0.5, 1, 0.2, catch_up_s=data.draw(st.sampled_from([0.1, 2.0, 9.0]))),
        infos=INFOS, selector=data.draw(st.sampled_from([spin, by_turns, by_chance])),
        draft_length=data.draw(st.integers(0, 6)), max_num_seqs=data.draw(st.integers(1, 6)),
        block_size=BLOCK_SIZE, num_kv_blocks=num_kv_blocks, placement=data.draw(st.sampled_from(PLACEMENTS)),
        pipeline=micro_batches(data.draw(st.sampled_from([1, 2, 3, "adaptive"]))), switching="ahead", interface=Audited,
    )  # fmt: skip
    check_identities(record, [request.id for request in trace])
    assert {one.request_id: one.output_tokens for one in record.requests} == {
        request.id: request.max_new_tokens for request in trace
    }
