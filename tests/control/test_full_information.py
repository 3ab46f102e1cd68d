"""What the loop tells a selector of all drafters, against the texts; and what that costs."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.full_information import FullFeedback
from spinbench.control.jobs.job import CatchUpJob, Job
from spinbench.workload.acceptance.from_table import streams_from_table
from tests.control.oracle.known_run import INFOS, STREAMS, TRACE
from tests.control.scarce_body import ScarceBody
from tests.simulation import simulated
from tests.workload.acceptance.made_table import made_table, request


class Listener:
    """Takes turns among drafters and plain decoding, and keeps what it is told of all of them."""

    needs_confidence = False

    def __init__(self, num_drafters: int) -> None:
        self._num_drafters = num_drafters
        self.accepted: dict[int, list[list[int]]] = {}
        """By row: for each position in order, the tokens that each drafter would have had accepted."""

    def choose(self, context: RoundContext) -> IntArray:
        return (context.num_rounds + context.rows) % (self._num_drafters + 1) - 1

    def observe(self, outcome: RoundOutcome) -> None: ...

    def observe_all(self, feedback: FullFeedback) -> None:
        columns = feedback.rows.tolist(), feedback.num_positions.tolist(), feedback.accepted.tolist()
        for row, count, accepted in zip(*columns, strict=True):
            self.accepted.setdefault(row, []).extend(accepted[:count])


def _listen(infos: Sequence[DrafterInfo], trace, streams, k: int, **decisions) -> tuple[Listener, simulated.RunRecord]:
    listener = Listener(len(infos))
    record = simulated.simulate(
        trace, streams, simulated.StatedTimes(draft_token_s=0.1, catch_up_s=0.5), infos=infos,
        selector=lambda _: listener, draft_length=k, **decisions,
    )  # fmt: skip
    return listener, record


MODELS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("c", "model"))
RATES = simulated.bernoulli(TRACE, {"a": 0.4, "b": 0.7, "c": 0.9})


def _assert_told_the_truth(listener: Listener, k: int) -> None:
    for row, length in enumerate(RATES.num_tokens.tolist()):
        told = np.array(listener.accepted.get(row, [])).reshape(-1, len(MODELS))
        # K tokens late, and not told any more once the request is over
        assert length - 2 * k - 1 <= len(told) <= max(0, length - k)
        start = int(RATES.offsets[row]) + 1
        assert told.T.tolist() == np.minimum(RATES.run[:, start : start + len(told)], k).tolist()


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 6), max_num_seqs=st.integers(1, 5))
def test_every_model_is_judged_at_every_position(k, max_num_seqs):
    listener, _ = _listen(MODELS, TRACE, RATES, k, max_num_seqs=max_num_seqs)
    _assert_told_the_truth(listener, k)


def test_a_preempted_request_is_judged_once():
    listener, record = _listen(MODELS, TRACE, RATES, 3, max_num_seqs=6, num_kv_blocks=8)
    assert any(one.num_preemptions for one in record.requests)
    _assert_told_the_truth(listener, 3)


def test_who_was_not_judged_for_want_of_memory_is_judged_later():
    def fits(job: Job) -> bool:
        return not isinstance(job, CatchUpJob) or job.drafter != 1 or len(job.spans) <= 2

    listener, record = _listen(MODELS, TRACE, RATES, 3, max_num_seqs=6, interface=lambda body: ScarceBody(body, fits))
    assert record.spans.kind.count("out_of_memory") > 0
    assert all(one.finish_reason == "length" for one in record.requests)
    _assert_told_the_truth(listener, 3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=25), st.integers(1, 3), st.integers(1, 3))
def test_hindsight_of_a_lookup_is_what_it_would_have_drafted(tokens, max_order, min_order):
    index = NgramIndex(tokens)
    for place, (token, code) in enumerate(zip(tokens, index.hindsight, strict=True)):
        before = NgramIndex(tokens[:place])
        assert code & 3 == before.match_order()
        longest = min(code & 3, max_order)
        drafted = before.draft(1, max_order, min_order)
        assert bool(drafted) == (longest >= min_order)
        if drafted:
            assert (drafted[0] == token) == bool(code >> (longest + 1) & 1)


def test_a_lookup_is_judged_by_the_text_and_a_model_where_nothing_matches():
    # 5 6 7 8 | 5 6 7 8 5 6 9 9 9 9 9 9: copies are right until 9 comes, and again behind it
    text = [5, 6, 7, 8, 5, 6, 9, 9, 9, 9, 9, 9]
    right = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    table = made_table({"a": [[1 - one for one in right]]}, prompts=[[5, 6, 7, 8]], token_ids=[text])
    infos = (
        DrafterInfo("a", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"),
        DrafterInfo("a+prompt_lookup", "lookup_then_model", min_match_tokens=3),
    )  # fmt: skip
    asked = [request(0, len(text))]
    streams = streams_from_table(table, asked, [info.name for info in infos])
    listener, _ = _listen(infos, [request(0, len(text), prompt=None, prompt_len_tokens=4)], streams, 1)
    told = np.array(listener.accepted[0])
    model, lookup, both = told.T.tolist()
    assert model == right[1 : 1 + len(told)]
    # 1 match of "5" at position 1, ... 3 matching tokens from position 3 on; the first 9 is new, the second has "6 9"? no
    assert lookup == [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1][: len(told)]
    # with 3 matching tokens it copies: positions 3, 4, 5 and, wrongly, 6; from three 9s on again
    assert both == [0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1][: len(told)]


def test_asking_all_drafters_takes_their_time():
    infos = INFOS[:2]
    # one request of 9 tokens; nobody drafts in round 0, then a, b in turns
    trace = simulated.requests(1, 9)
    streams = simulated.bernoulli(trace, {"a": 0.0, "b": 0.0})
    infos = (DrafterInfo("a", "model"), DrafterInfo("b", "model"))
    listener, record = _listen(infos, trace, streams, 2)
    kinds = [(span.lane, span.kind, span.round_index) for span in record.spans if span.round_index in (-1, 0, 1, 2)]
    assert kinds == [
        ("target", "prefill", -1),
        ("target", "verify", 0),
        # the token of round 0: both are asked, with the prompt, which they have not seen
        ("a", "catch_up", 1), ("b", "catch_up", 1), ("a", "draft", 1), ("target", "verify", 1),
        # a's own draft was its answer; b did not draft
        ("b", "catch_up", 2), ("b", "draft", 2), ("target", "verify", 2),
    ]  # fmt: skip
    assert {part.catch_up_tokens for part in record.rounds} == {0}
    assert sum(len(told) for told in listener.accepted.values()) > 0


def test_a_selector_that_does_not_learn_from_all_has_nobody_asked():
    record = simulated.simulate(TRACE, STREAMS, simulated.StatedTimes(), infos=INFOS, selector=simulated.fixed("a"))
    assert {span.lane for span in record.spans} == {"target", "a"}


@pytest.mark.parametrize("k", [1, 4])
def test_a_request_of_one_token_and_no_drafters_at_all(k):
    for infos, streams in ((INFOS, STREAMS), ((), simulated.bernoulli(TRACE, {}))):
        _, record = _listen(infos, TRACE, streams, k, max_num_seqs=3)
        assert {one.output_tokens for one in record.requests} == set(STREAMS.num_tokens.tolist())
