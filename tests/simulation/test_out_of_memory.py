"""Jobs that do not fit, at random: every request gets its text once, and no KV is counted that is not there."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control import batch_limits
from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, VerifyJob
from spinbench.control.jobs.result import DidNotFit, VerifyResult
from spinbench.control.loop import ServingLoop
from spinbench.metrics.identities import check_identities
from spinbench.workload.acceptance.synthetic import synthetic_streams
from tests.control.scarce_body import ScarceBody
from tests.simulation.drawn_trace import BLOCK_SIZE, drawn_trace
from tests.simulation.simulated import StatedTimes, loop_of, micro_batches
from tests.simulation.test_draft_ahead import AHEAD
from tests.simulation.test_switching import INFOS, LAW, PLACEMENTS, by_chance, by_turns, spin

NUM_DRAFTERS = len(INFOS)


def _is_needed(job: Job) -> bool:
    """Whether its only request would be given up without it."""
    return len(job.spans) == 1 and not (isinstance(job, DraftJob) and job.is_ahead)


class Audited(ScarceBody):
    """Keeps books of the KV that each drafter's jobs leave behind, as they end, and holds the loop's against them."""

    def __init__(self, body: Body, rng: np.random.Generator, share: float, doomed: int) -> None:
        """A `share` of the jobs of several requests does not fit, and none of the request `doomed`."""
        super().__init__(body, lambda job: doomed not in job.spans.rows and (_is_needed(job) or rng.random() > share))
        self.loop: ServingLoop | None = None
        self._held: dict[tuple[int, int], int] = defaultdict(int)
        """By request and drafter."""
        self._drafts: dict[int, tuple[int, int, int]] = {}
        """Of each request in a round: drafter, first drafted position, drafted tokens fed back."""
        self._releases: dict[int, int] = defaultdict(int)
        self._submitted: dict[int, list[int]] = {}
        """By job: its requests' releases then."""

    def submit(self, job: Job) -> None:
        self._submitted[id(job)] = [self._releases[row] for row in job.spans.rows.tolist()]
        if isinstance(job, DraftJob) and INFOS[job.drafter].has_kv_cache:
            assert (job.spans.num_tokens > 0)[~job.by_lookup].all(), "a draft behind nothing"
        super().submit(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        if self.loop is not None:
            held = self.loop.table.drafter_kv_tokens
            for row, drafter in zip(*held.nonzero(), strict=True):
                assert held[row, drafter] <= self._held[int(row), int(drafter)], "KV that is not there is counted"
        done = super().next_event(deadline_s)
        if done is not None:
            releases = self._submitted.pop(id(done.job))
            if not isinstance(done.result, DidNotFit):
                self._book(done, releases)
        return done

    def _book(self, done: JobDone, releases: list[int]) -> None:
        job, result = done.job, done.result
        rows, starts, stops = (column.tolist() for column in (job.spans.rows, job.spans.start, job.spans.stop))
        for at, (row, start, stop) in enumerate(zip(rows, starts, stops, strict=True)):
            if releases[at] != self._releases[row]:
                continue
            if isinstance(job, CatchUpJob | DraftJob) and start < stop:
                if isinstance(job, DraftJob) and job.is_ahead:
                    continue
                if start > self._held[row, job.drafter]:
                    self._drafts.pop(row, None)
                    continue  # upon KV that is not there
                self._held[row, job.drafter] = stop
                if isinstance(job, DraftJob):
                    self._drafts[row] = job.drafter, stop, int(job.num_speculative_tokens[at]) - 1
            elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult) and row in self._drafts:
                drafter, first, fed_back = self._drafts.pop(row)
                self._held[row, drafter] = first + min(int(result.num_emitted[at]) - 1, fed_back)

    def forget(self, rows: IntArray) -> None:
        for row in rows.tolist():
            self._drafts.pop(row, None)
        super().forget(rows)

    def release(self, rows: IntArray) -> None:
        for row in rows.tolist():
            self._releases[row] += 1
            self._drafts.pop(row, None)
            for drafter in range(NUM_DRAFTERS):
                self._held.pop((row, drafter), None)
        super().release(rows)


def serve(data: st.DataObject, drafts_ahead: bool) -> None:
    """A run of random requests on a random device, most of whose larger jobs do not fit."""
    trace, num_kv_blocks = drawn_trace(data)
    doomed = data.draw(st.sampled_from([-1, -1, 0, len(trace) - 1]))
    rng, share = np.random.default_rng(data.draw(st.integers(0, 99))), data.draw(st.sampled_from([0.2, 0.6, 1.0]))
    bodies: list[Audited] = []

    def scarce(body: Body) -> Body:
        bodies.append(Audited(body, rng, share, doomed))
        return bodies[0]

    depth = data.draw(st.sampled_from([1, 2, 3, "adaptive"]))
    names = tuple(info.name for info in INFOS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_limits, "JOBS_BEFORE_MORE", data.draw(st.sampled_from([1, 3, 100])))
        loop = loop_of(
            trace, synthetic_streams(trace, names, LAW, seed=data.draw(st.integers(0, 99))),
            StatedTimes(0.5, 1, 0.2, catch_up_s=data.draw(st.sampled_from([0.1, 2.0, 9.0]))),
            infos=INFOS, selector=data.draw(st.sampled_from([spin, by_turns, by_chance])),
            draft_length=data.draw(st.integers(0, 6)), max_num_seqs=data.draw(st.integers(1, 6)), block_size=BLOCK_SIZE,
            num_kv_blocks=num_kv_blocks, placement=data.draw(st.sampled_from(PLACEMENTS)),
            pipeline=AHEAD if drafts_ahead else micro_batches(depth),
            switching=data.draw(st.sampled_from(["on_demand", "ahead"])), interface=scarce,
        )  # fmt: skip
        if not drafts_ahead:  # what is drafted ahead counts as KV once it has come true, which these books do not know
            bodies[0].loop = loop
        record = loop.run()
    check_identities(record, [request.id for request in trace])
    for one in record.requests:
        row = loop.table.row_of[one.request_id]
        if row == doomed:
            assert (one.finish_reason, one.output_tokens) == ("out_of_memory", 0)
        else:
            assert (one.finish_reason, one.output_tokens) == ("length", trace[row].max_new_tokens)
    assert record.spans.kind.count("out_of_memory") == bodies[0].num_unfit
    assert loop.scheduler._kv_budget.num_free_blocks == num_kv_blocks


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_kv_is_counted_that_is_not_there(data):
    serve(data, drafts_ahead=False)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_nothing_is_lost_where_drafts_are_made_ahead(data):
    serve(data, drafts_ahead=True)
