"""The loop on a scripted body: neither torch nor simpy is needed to decide."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.control.jobs.job import CatchUpJob, DraftJob, PrefillJob, VerifyJob
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.records.run_record import RunRecord
from spinbench.control.request_table import NO_DRAFTER, RequestTable
from spinbench.control.text import LiveText
from spinbench.errors import UserError
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.control.scripted_body import EOS, ScriptedBody, true_token

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("lookup", "prompt_lookup"))


class Script:
    """A selector that follows a list of choices, round by round, and remembers what it saw."""

    needs_confidence = True

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = choices
        self.contexts: list[RoundContext] = []
        self.outcomes: list[RoundOutcome] = []

    def choose(self, context: RoundContext) -> IntArray:
        self.contexts.append(context)
        return np.array(self._choices)[context.num_rounds % len(self._choices)]

    def observe(self, outcome: RoundOutcome) -> None:
        self.outcomes.append(outcome)


class Branching(Script):
    """One that may have a second drafter beside the first, and never has."""

    branches = True

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__(choices)
        self.num_asked = 0

    def beside(self, context: RoundContext) -> tuple[IntArray, IntArray]:
        self.num_asked += 1
        return np.full(len(context), NO_DRAFTER), np.zeros(len(context), np.int64)


def _request(name: str, prompt: int = 5, new: int = 12, **more) -> Request:
    return Request(
        id=name, arrival_s=more.pop("arrival_s", 0.0), max_new_tokens=new, prompt_token_ids=(1,) * prompt, **more
    )


def _serve(requests, body, selector, *, k=4, max_num_seqs=8, num_kv_blocks=100, pattern=None) -> RunRecord:
    setting = LoopSetting(
        DRAFTERS, selector, FixedDraftLength(k), PackedLayout(), frozenset({EOS}), num_kv_blocks, 4, max_num_seqs, 64
    )
    prompts = {request.id: request.prompt_token_ids for request in requests}
    queue = ArrivalQueue(requests, pattern or ArrivalPattern(kind="trace"))
    table = RequestTable(queue.requests, {name: len(ids) for name, ids in prompts.items()}, len(DRAFTERS))
    return ServingLoop(setting, body, queue, table, LiveText(queue.requests, prompts)).run()


def test_one_request_step_by_step():
    body, selector = ScriptedBody(accepts=(2, 0, 0)), Script([0])
    record = _serve([_request("x", prompt=MAX_UNSEEN_TOKENS, new=9)], body, selector)
    # prefill emits 1; then rounds of 2 accepted + bonus: 1 + 3 + 3 = 7; of the 2 left only one is drafted: + 2 = 9
    assert [part.emitted for part in record.rounds] == [3, 3, 2]
    assert [part.drafted for part in record.rounds] == [4, 4, 1]
    assert record.requests[0].output_token_ids == tuple(true_token(position) for position in range(16, 25))
    kinds = [type(job) for job in body.jobs]
    assert kinds == [PrefillJob, CatchUpJob, DraftJob, VerifyJob, DraftJob, VerifyJob, DraftJob, VerifyJob]
    assert record.requests[0].first_token_s == 1.0
    assert record.requests[0].finish_s == 8.0  # 8 jobs of a second


def test_second_drafters_are_asked_for_once_a_choice():
    selector = Branching([0])
    record = _serve([_request("x"), _request("y", new=20)], ScriptedBody(accepts=(2, 0, 0)), selector)
    assert record.complete
    assert selector.num_asked == len(selector.contexts) > 5


def test_a_drafter_is_fed_exactly_what_it_has_not_seen():
    body, selector = ScriptedBody(accepts=(2, 4, 0)), Script([0, 0, *[1] * 6, *[0] * 3])
    _serve([_request("x", prompt=30, new=70)], body, selector)
    seen = {0: 0, 1: 0}
    for job in body.jobs:
        if isinstance(job, CatchUpJob):
            assert job.spans.start[0] == seen[job.drafter]
            seen[job.drafter] = job.spans.stop[0]
        elif isinstance(job, DraftJob):
            ((start,), (stop,), (length,)) = job.spans.start, job.spans.stop, job.num_speculative_tokens
            assert start == seen[job.drafter]
            assert 1 <= stop - start <= MAX_UNSEEN_TOKENS
            accepted = min((2, 4)[job.drafter], length)
            # its own last token was never fed to it
            seen[job.drafter] = stop + min(accepted, length - 1)


def test_end_token_inside_an_accepted_run_drops_the_rest():
    body, selector = ScriptedBody(accepts=(4, 0, 0), eos_at=8), Script([0])
    record = _serve([_request("x", prompt=5, new=30)], body, selector)
    # positions 5 (prefill), then 6, 7, 8 = end; 9 and 10 were accepted by the target and are dropped
    assert record.requests[0].output_token_ids == (true_token(5), true_token(6), true_token(7), EOS)
    assert record.requests[0].finish_reason == "stop"
    assert (record.rounds[0].accepted, record.rounds[0].emitted) == (2, 3)


def test_end_token_is_ignored_on_request():
    body = ScriptedBody(accepts=(4, 0, 0), eos_at=8)
    record = _serve([_request("x", prompt=5, new=10, ignore_eos=True)], body, Script([0]))
    assert record.requests[0].output_tokens == 10
    assert record.requests[0].finish_reason == "length"


def test_each_drafter_drafts_its_own_group_in_one_round():
    class ByName(Script):
        def choose(self, context):
            return np.array([0, 1, 0, NO_DRAFTER])[context.rows]

    body = ScriptedBody(accepts=(1, 3, 0))
    record = _serve([_request(name) for name in "pqrs"], body, ByName([0]))
    first = {part.request_id: part for part in record.rounds if part.round_index == 0}
    assert {name: part.drafter for name, part in first.items()} == {"p": "a", "q": "b", "r": "a", "s": None}
    assert {name: part.emitted for name, part in first.items()} == {"p": 2, "q": 4, "r": 2, "s": 1}
    drafts = [job for job in body.jobs if isinstance(job, DraftJob)][:2]
    assert [(job.drafter, len(job.spans)) for job in drafts] == [(0, 2), (1, 1)]


def test_the_context_carries_what_a_selector_needs():
    selector = Script([0])
    _serve([_request("x", category="code"), _request("y")], ScriptedBody(accepts=(2, 0, 0)), selector)
    first, second = selector.contexts[:2]
    assert first.category.tolist() == [0, -1]  # "code" is the first name
    assert (len(first), first.num_rounds.tolist(), first.last_drafter.tolist()) == (2, [0, 0], [-1, -1])
    assert first.missing_kv_tokens[0].tolist() == [6, 6, 0]  # 5 of the prompt, the first token; lookup keeps no KV
    assert second.missing_kv_tokens[0].tolist() == [1, 9, 0]  # drafter a followed: 6 + 2 accepted; bonus not seen yet
    assert second.last_drafter.tolist() == [0, 0]
    assert (second.last_drafted[0], second.last_accepted[0], second.last_confidence[0]) == (4, 2, 0.5)
    outcome = selector.outcomes[0]
    assert (outcome.draft_time_s[0], outcome.verify_time_s, outcome.group_size()[0]) == (1.0, 1.0, 2)


def test_arrivals_are_waited_for():
    record = _serve([_request("x"), _request("late", arrival_s=100.0)], ScriptedBody(accepts=(4, 0, 0)), Script([0]))
    late = next(request for request in record.requests if request.request_id == "late")
    assert (late.first_scheduled_s, late.first_token_s) == (100.0, 101.0)


def test_closed_loop_keeps_the_concurrency():
    pattern = ArrivalPattern(kind="all_at_once", max_concurrency=2)
    record = _serve([_request(name) for name in "abcde"], ScriptedBody(accepts=(1, 0, 0)), Script([0]), pattern=pattern)
    assert max(part.batch_size for part in record.rounds) == 2
    assert len(record.requests) == 5


def test_a_request_that_cannot_fit_alone_is_an_error():
    with pytest.raises(UserError, match=r"'x' may need 5 KV blocks"):
        _serve([_request("x", prompt=5, new=12)], ScriptedBody(), Script([NO_DRAFTER]), num_kv_blocks=4)


def test_interruption_keeps_what_is_finished():
    class Interrupted(ScriptedBody):
        def next_event(self, deadline_s):
            if self.now() >= 6:
                raise KeyboardInterrupt
            return super().next_event(deadline_s)

    record = _serve(
        [_request("short", new=2), _request("long", new=30)], Interrupted(accepts=(0, 0, 0)), Script([NO_DRAFTER])
    )
    assert not record.complete
    assert {r.request_id: r.finish_reason for r in record.requests} == {"short": "length", "long": "aborted"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_request_gets_its_text_under_any_memory(data):
    count = data.draw(st.integers(1, 7))
    requests = [
        _request(
            f"r{index}", prompt=data.draw(st.integers(1, 9)), new=data.draw(st.integers(1, 14)),
            arrival_s=float(data.draw(st.integers(0, 20))),
        )
        for index in range(count)
    ]  # fmt: skip
    requests.sort(key=lambda request: request.arrival_s)
    largest = max(-(-(len(r.prompt_token_ids) + r.max_new_tokens) // 4) for r in requests)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    record = _serve(
        requests, ScriptedBody(accepts=(3, 1, 0)), Script([0, NO_DRAFTER, 1, 2, *rng.integers(0, 3, 3).tolist()]),
        num_kv_blocks=largest + data.draw(st.integers(0, 6)), max_num_seqs=data.draw(st.integers(1, 5)),
        k=data.draw(st.integers(0, 5)),
    )  # fmt: skip
    assert len(record.requests) == count
    for request, served in ((r, s) for r in requests for s in record.requests if s.request_id == r.id):
        start = len(request.prompt_token_ids)
        assert served.output_token_ids == tuple(map(true_token, range(start, start + request.max_new_tokens)))
        emitted = sum(part.emitted for part in record.rounds if part.request_id == request.id)
        assert served.num_prefill_emitted_tokens == 1 + served.num_preemptions
        assert served.output_tokens == served.num_prefill_emitted_tokens + emitted
