"""What does not fit on a device is done in smaller batches, or its request is given up: the loop on a scripted body."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

from spinbench.control import batch_limits
from spinbench.control.batch_limits import BatchLimits
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.pipeline import MicroBatchPipeline, Pipeline, SerialPipeline
from spinbench.control.records.run_record import RunRecord
from spinbench.control.request_table import NO_DRAFTER, RequestTable
from spinbench.control.text import LiveText
from spinbench.metrics.identities import check_identities
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.control.scarce_body import ScarceBody
from tests.control.scripted_body import EOS, ScriptedBody, true_token

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"))
PROMPT = 5


class ByRow:
    """Each request its own drafter, for ever."""

    needs_confidence = False

    def __init__(self, *drafters: int) -> None:
        self._drafters = np.array(drafters)

    def choose(self, context):
        return self._drafters[context.rows % len(self._drafters)]

    def observe(self, outcome): ...


class Served:
    """Requests of 12 tokens, served on a scripted body whose jobs fit as `fits` says."""

    def __init__(
        self,
        fits: Callable[[Job], bool],
        *drafters: int,
        count: int = 5,
        pipeline: Pipeline | None = None,
        body: ScriptedBody | None = None,
    ) -> None:
        requests = [Request(f"r{row}", 0.0, 12, prompt_token_ids=(1,) * PROMPT) for row in range(count)]
        prompts = {request.id: request.prompt_token_ids or () for request in requests}
        setting = LoopSetting(
            DRAFTERS, ByRow(*drafters), FixedDraftLength(2), PackedLayout(), frozenset({EOS}), 100, 4, count, 64,
            pipeline or SerialPipeline(),
        )  # fmt: skip
        queue = ArrivalQueue(requests, ArrivalPattern(kind="trace"))
        table = RequestTable(queue.requests, {name: len(ids) for name, ids in prompts.items()}, len(DRAFTERS))
        self.body = body or ScriptedBody(accepts=(1, 1))
        self.progress: list[Progress] = []
        loop = ServingLoop(
            setting, ScarceBody(self.body, fits), queue, table, LiveText(queue.requests, prompts), self.progress.append
        )
        self.record: RunRecord = loop.run()
        check_identities(self.record, [request.id for request in requests])
        assert loop.scheduler._kv_budget.num_free_blocks == 100
        assert sorted(self.body.released) == list(range(count))
        assert self.progress[-1].finished_requests == count
        for one in self.record.requests:
            assert one.num_preemptions == 0
            assert one.output_token_ids == tuple(map(true_token, range(PROMPT, PROMPT + one.output_tokens)))

    @property
    def complete(self) -> set[str]:
        return {one.request_id for one in self.record.requests if one.output_tokens == 12}

    def jobs(self) -> list[tuple[str, int]]:
        """Kind and number of requests of each job."""
        return [(span.kind, len(span.request_ids)) for span in self.record.spans]


def at_most(kind: type[Job], count: int) -> Callable[[Job], bool]:
    return lambda job: not isinstance(job, kind) or len(job.spans) <= count


def test_a_round_that_does_not_fit_is_done_in_smaller_ones_that_take_turns():
    served = Served(at_most(VerifyJob, 2), NO_DRAFTER)
    assert len(served.complete) == 5
    assert served.jobs()[:7] == [
        ("prefill", 5), ("out_of_memory", 5), ("out_of_memory", 3), *[("verify", 2)] * 4,
    ]  # fmt: skip
    assert served.record.spans.kind.count("out_of_memory") == 2
    # 5 requests of 11 further tokens, two at a time but for those that are left over
    assert 28 <= served.record.spans.kind.count("verify") <= 33
    first = [set(span.request_ids) for span in served.record.spans if span.kind == "verify"][:3]
    assert set.union(*first) == {f"r{row}" for row in range(5)}  # who waited longest comes next


def test_more_is_tried_after_a_while(monkeypatch):
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", 4)
    served = Served(at_most(VerifyJob, 2), NO_DRAFTER)
    assert served.jobs()[3:9] == [*[("verify", 2)] * 4, ("out_of_memory", 4), ("verify", 2)]
    assert len(served.complete) == 5


def test_a_round_is_not_verified_when_one_of_its_drafts_did_not_fit():
    served = Served(lambda job: not isinstance(job, DraftJob) or job.drafter == 0 or len(job.spans) < 2, 0, 1, count=4)
    assert len(served.complete) == 4
    # a drafts for r0 and r2, b for r1 and r3; then a and b have one each
    assert served.jobs()[1:6] == [("draft", 2), ("out_of_memory", 2), ("draft", 1), ("draft", 1), ("verify", 2)]
    assert sorted(served.body.forgotten) == [0, 1, 2, 3]
    assert {part.round_index for part in served.record.rounds if part.context_tokens == PROMPT + 1} == {1, 2}


def test_kv_of_a_catch_up_that_did_not_fit_is_not_counted():
    def fits(job: Job) -> bool:
        return not isinstance(job, CatchUpJob) or len(job.spans) <= 2

    body = ScriptedBody(accepts=(1, 1))
    long = [Request(f"r{row}", 0.0, 4, prompt_token_ids=(1,) * 30) for row in range(4)]
    prompts = {request.id: request.prompt_token_ids or () for request in long}
    setting = LoopSetting(
        DRAFTERS, ByRow(0), FixedDraftLength(2), PackedLayout(), frozenset({EOS}), 100, 4, 4, 200, SerialPipeline()
    )
    queue = ArrivalQueue(long, ArrivalPattern(kind="trace"))
    table = RequestTable(queue.requests, dict.fromkeys(prompts, 30), len(DRAFTERS))
    record = ServingLoop(setting, ScarceBody(body, fits), queue, table, LiveText(queue.requests, prompts)).run()
    caught_up = [job for job in body.jobs if isinstance(job, CatchUpJob)]
    assert [job.spans.rows.tolist() for job in caught_up] == [[0, 1, 2, 3], [0, 1], [2, 3]]
    assert all((job.spans.start == 0).all() for job in caught_up)
    assert all(one.output_tokens == 4 for one in record.requests)


def test_a_prefill_that_does_not_fit_is_done_in_parts():
    served = Served(lambda job: not isinstance(job, PrefillJob) or job.spans.num_tokens.sum() <= 2 * PROMPT, NO_DRAFTER)
    assert len(served.complete) == 5
    assert served.jobs()[:6] == [
        ("out_of_memory", 5), ("out_of_memory", 3), ("prefill", 2), ("prefill", 2), ("prefill", 1), ("verify", 5)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [PrefillJob, DraftJob, VerifyJob])
def test_a_request_that_does_not_fit_alone_is_given_up_and_the_others_go_on(kind, caplog):
    def fits(job: Job) -> bool:
        return not isinstance(job, kind) or 2 not in job.spans.rows

    with caplog.at_level(logging.WARNING):
        served = Served(fits, 0)
    assert served.complete == {"r0", "r1", "r3", "r4"}
    (given_up,) = (one for one in served.record.requests if one.request_id == "r2")
    assert given_up.finish_reason == "out_of_memory"
    assert given_up.finish_s in served.record.spans.end_s
    assert given_up.output_tokens == (kind is not PrefillJob)
    what = {PrefillJob: "prefill", DraftJob: "draft", VerifyJob: "verify"}[kind]
    (line,) = (one.getMessage() for one in caplog.records if "given up" in one.getMessage())
    assert line.startswith(f"request 'r2' is given up: out of memory in a {what} job of it alone")
    assert "lower kv.gpu_memory_utilization" in line
    if kind is VerifyJob:  # the others are no longer held to what it took
        after = served.jobs()[served.jobs().index(("out_of_memory", 1)) + 1 :]
        assert ("verify", 4) in after


def test_what_fits_only_alone_has_no_company(caplog):
    class Crowded(ScriptedBody):
        def crowded(self) -> bool:
            return bool(self._queue)

    body = Crowded(accepts=(1, 1))
    pipeline = MicroBatchPipeline(2, "round_robin", 8, 2, 2)
    with caplog.at_level(logging.WARNING):
        served = Served(
            lambda job: not (isinstance(job, VerifyJob) and body.crowded()), 0, count=4, pipeline=pipeline, body=body
        )
    assert len(served.complete) == 4
    assert any("nothing is done beside" in one.getMessage() for one in caplog.records)


def job_of(count: int) -> VerifyJob:
    rows = np.arange(count)
    return VerifyJob(TokenSpans(rows, rows, rows + 1), PackedLayout().plan(rows + 1, rows + 1))


def test_limits_are_halved_doubled_and_lifted():
    limits = BatchLimits(7, 100)
    assert limits.retry_round(job_of(7), 7, has_company=False)
    assert limits.round_requests == 4
    for _ in range(batch_limits.JOBS_BEFORE_MORE):
        assert limits.round_requests == 4
        limits.fitted()
    assert limits.round_requests == 7
    assert limits.retry_prefill(PrefillJob(TokenSpans(np.arange(3), np.zeros(3, int), np.array([9, 8, 7]))), False)
    assert limits.prefill_tokens == 17
    assert limits.retry_round(job_of(1), 1, has_company=True)
    assert limits.one_at_a_time
    assert not limits.retry_round(job_of(1), 1, has_company=False)
    assert (limits.round_requests, limits.prefill_tokens, limits.one_at_a_time) == (7, 100, False)
