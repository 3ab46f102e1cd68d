"""Drafting while the target verifies, in simulated time: what it is worth, and that no phantom KV is ever drafted upon."""

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.arrays import IntArray
from spinbench.control.draft_length.by_match_order import MatchOrderDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, VerifyJob
from spinbench.control.jobs.result import DraftResult, VerifyResult
from spinbench.control.jobs.wrapped_body import WrappedBody
from spinbench.control.pipeline import DraftWhileVerifyPipeline
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.merged import MergedSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random import RandomSelector
from spinbench.errors import UserError
from spinbench.metrics.identities import check_identities
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record
from spinbench.simulation.answers import WRONG_TOKEN
from spinbench.workload.acceptance.synthetic import DifficultyClass, SyntheticLaw, synthetic_streams
from tests.simulation.simulated import StatedTimes, bernoulli, fixed, requests, simulate
from tests.simulation.test_switching import INFOS, LAW, PLACEMENTS, by_chance, by_turns, spin

AHEAD = DraftWhileVerifyPipeline()


def jobs_of(record: RunRecord) -> list[tuple[str, float, float]]:
    spans = record.spans
    return list(zip(spans.kind, spans.start_s.tolist(), spans.end_s.tolist(), strict=True))


def one_request(num_tokens: int, rate: float, k: int, times: StatedTimes, placement="own_devices", **changes):
    trace = requests(1, num_tokens)
    return simulate(
        trace, bernoulli(trace, {"d": rate}, seed=4), times, selector=fixed(), draft_length=k, placement=placement,
        **{"pipeline": AHEAD, **changes},
    )  # fmt: skip


def test_rounds_follow_each_other_at_once_while_guesses_come_true():
    # 9 tokens: a prefill, then 3 + 3 + 2. Ahead: a guess and two tokens behind the first round, the guess and one token
    # behind the second, as the last token of all is never drafted
    record = one_request(9, 1.0, 2, StatedTimes(prefill_s=1, verify_s=4, draft_token_s=1))
    assert jobs_of(record) == [
        ("prefill", 0, 1), ("draft", 1, 3), ("draft_ahead", 3, 6), ("verify", 3, 7), ("draft_ahead", 7, 9),
        ("verify", 7, 11), ("verify", 11, 15),
    ]  # fmt: skip
    assert record.spans.used_tokens.tolist() == [0, 0, 2, 0, 1, 0, 0]
    assert record.spans.num_tokens.tolist()[1:5] == [4 + 1, 3, 3, 2]
    assert record.rounds.drafted.tolist() == [2, 2, 1]
    assert record.rounds.draft_start_s.tolist() == [1, 3, 7]
    summary = summarise(tables_from_record(record))
    assert (summary["spec_decode_ahead_tokens"], summary["spec_decode_used_ahead_tokens"]) == (5, 3)


def test_a_wrong_guess_costs_what_the_drafter_is_late():
    # nothing is accepted, a token a round. With 5 left, 2 are drafted, and at best 2 are left behind the bonus token, of
    # which the last is never drafted: ahead are the guess and one token. With 4 left there is nothing to draft ahead
    record = one_request(6, 0.0, 2, StatedTimes(prefill_s=1, verify_s=1, draft_token_s=1))
    assert jobs_of(record) == [
        ("prefill", 0, 1), ("draft", 1, 3), ("verify", 3, 4), ("draft_ahead", 3, 5), ("draft", 5, 7), ("verify", 7, 8),
        ("draft", 8, 10), ("verify", 10, 11), ("draft", 11, 12), ("verify", 12, 13), ("verify", 13, 14),
    ]  # fmt: skip
    assert record.spans.used_tokens.sum() == 0


@pytest.mark.parametrize(
    ("rate", "k", "verify_s", "token_s"), [(0.8, 3, 1.0, 0.1), (0.6, 2, 1.0, 0.5), (0.9, 4, 1.0, 0.2)]
)
def test_a_round_takes_the_longer_of_drafting_and_verifying_where_the_guess_is_right(rate, k, verify_s, token_s):
    record = one_request(1501, rate, k, StatedTimes(verify_s=verify_s, draft_token_s=token_s))
    rounds = record.rounds
    assert set(rounds.num_speculative_tokens.tolist()[:-3]) == {k}
    kept = rounds.draft_end_s <= np.concatenate(([0.0], rounds.verify_start_s[:-1] + (k + 1) * token_s)) + 1e-9
    inner = slice(1, -3)  # near the end of the answer drafts are cut
    apart_s = np.diff(rounds.verify_start_s)[:-3]
    busy_s = max(verify_s, (k + 1) * token_s)
    assert apart_s == pytest.approx(np.where(kept[inner], busy_s, busy_s + k * token_s))
    # a guess is right if K + 1 tokens in a row are: independent draws (Leviathan et al., arXiv 2211.17192)
    probability = rate ** (k + 1)
    error = (probability * (1 - probability) / len(apart_s)) ** 0.5
    assert abs(kept[inner].mean() - probability) < 4 * error
    per_round = (1 - rate ** (k + 1)) / (1 - rate)
    tokens_per_s = 1500 / (record.end_s - 1)
    assert tokens_per_s == pytest.approx(per_round / (busy_s + (1 - probability) * k * token_s), rel=0.05)


def test_positions_that_differ_in_their_rates_are_guessed_by_the_draft_as_a_whole():
    # a guess is the (K + 1)-th token of a draft: right with K others or not at all
    trace = requests(1, 900)
    streams = synthetic_streams(trace, ("d",), SyntheticLaw((DifficultyClass("all", 1.0, {"d": (1.0, 1.0, 0.0)}),)), 1)
    record = simulate(
        trace, streams, StatedTimes(draft_token_s=0.1), selector=fixed(), draft_length=2, placement="own_devices",
        pipeline=AHEAD,
    )  # fmt: skip
    assert (record.rounds.accepted[:-1] == 2).all()
    assert record.spans.used_tokens.sum() == 0


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=6), k=st.integers(0, 5), rate=st.floats(0, 1),
    verify_s=st.floats(0.1, 2), token_s=st.floats(0.0, 0.5), max_num_seqs=st.integers(1, 4),
    placement=st.sampled_from(PLACEMENTS[1:]),
)  # fmt: skip
def test_it_is_slower_than_serial_only_by_what_the_drafter_is_late(
    lengths, k, rate, verify_s, token_s, max_num_seqs, placement
):
    """The rounds are those of a serial pipeline, and each begins no later after the one before but for the time that a
    job ahead takes longer than the verification: nobody interrupts it."""
    trace = requests(len(lengths), lengths)
    streams = bernoulli(trace, {"d": rate}, seed=3)
    serial, ahead = (
        simulate(
            trace, streams, StatedTimes(0.5, verify_s, token_s), selector=fixed(), draft_length=k,
            max_num_seqs=max_num_seqs, placement=placement, **pipeline,
        )
        for pipeline in ({}, {"pipeline": AHEAD})
    )  # fmt: skip
    for name in ("row", "accepted", "drafted", "context_tokens", "batch_size"):
        assert getattr(ahead.rounds, name).tolist() == getattr(serial.rounds, name).tolist()
    num_rounds = len(set(ahead.rounds.round_index.tolist()))
    late_s = max(0.0, (k + 1) * token_s - verify_s)
    assert ahead.end_s <= serial.end_s + num_rounds * late_s + 1e-9
    # with more requests in a round, one that has to draft takes the others' time; a clock does not see 1e-200 s
    if max_num_seqs == 1 and ahead.spans.used_tokens.any() and not late_s and token_s > 1e-6:
        assert ahead.end_s < serial.end_s


def test_on_one_device_nothing_overlaps():
    serial, ahead = (
        one_request(50, 0.7, 2, StatedTimes(draft_token_s=0.25), placement="shared", **pipeline)
        for pipeline in ({"pipeline": None}, {})
    )
    assert (ahead.spans.start_s[1:] >= ahead.spans.end_s[:-1]).all()
    assert ahead.rounds.accepted.tolist() == serial.rounds.accepted.tolist()
    wasted = (
        ahead.spans.num_tokens[[kind == "draft_ahead" for kind in ahead.spans.kind]].sum()
        - ahead.spans.used_tokens.sum()
    )
    assert ahead.end_s == pytest.approx(serial.end_s + 0.25 * wasted)


def test_newcomers_are_prefilled_while_a_drafter_is_still_busy():
    trace = requests(2, [30, 2], arrivals_s=[0.0, 3.5])
    record = simulate(
        trace, bernoulli(trace, {"d": 1.0}), StatedTimes(prefill_s=1, verify_s=1, draft_token_s=1), selector=fixed(),
        draft_length=2, max_num_seqs=2, placement="own_devices", pipeline=AHEAD,
    )  # fmt: skip
    # verified from 3 to 4; the job ahead ends at 6, and the round that it is for waits for it
    assert [job for job in jobs_of(record) if job[0] != "draft"][:4] == [
        ("prefill", 0, 1), ("verify", 3, 4), ("prefill", 4, 5), ("draft_ahead", 3, 6),
    ]  # fmt: skip


def test_a_request_keeps_its_drafter_while_its_guesses_come_true():
    trace = requests(1, 40)
    record = simulate(
        trace, bernoulli(trace, {"a": 1.0, "b": 1.0}), StatedTimes(draft_token_s=0.1), selector=by_chance,
        draft_length=2, placement="own_devices", pipeline=AHEAD,
    )  # fmt: skip
    assert len(set(record.rounds.drafter[record.rounds.drafter >= 0].tolist())) == 1
    wrong = simulate(
        trace, bernoulli(trace, {"a": 0.0, "b": 0.0}), StatedTimes(draft_token_s=0.1), selector=by_chance,
        draft_length=2, placement="own_devices", pipeline=AHEAD,
    )  # fmt: skip
    assert len(set(wrong.rounds.drafter[wrong.rounds.drafter >= 0].tolist())) == 2


@dataclass
class Draft:
    """Tokens that a drafter fed back or may: `number` marks them."""

    drafter: int
    number: int
    first: int
    length: int


TEXT = -1


class Audited(WrappedBody[Body]):
    """A body that keeps books of what stands in each drafter's KV: the text, or tokens of a draft by its number."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._held: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        """By request and drafter, by position."""
        self._draft: dict[int, Draft] = {}
        """By request: what is to be verified."""
        self._behind: dict[int, Draft] = {}
        """By request: the guess and what is drafted behind it."""
        self._whole: dict[int, int] = {}
        """By request: number behind the draft that was kept whole last."""
        self._right: dict[int, bool] = {}
        """By number: whether the guess was, if the draft was kept whole."""
        self._jobs: dict[int, list[tuple[int, Draft]]] = {}
        self._number = 0

    def submit(self, job: Job) -> None:
        spans = zip(*(c.tolist() for c in (job.spans.rows, job.spans.start, job.spans.stop)), strict=True)
        if isinstance(job, CatchUpJob | DraftJob):
            lengths = job.num_speculative_tokens.tolist() if isinstance(job, DraftJob) else [0] * len(job.spans)
            copied = job.by_lookup.tolist() if isinstance(job, DraftJob) else [False] * len(job.spans)
            ahead = isinstance(job, DraftJob) and job.is_ahead
            if ahead:
                self._jobs[id(job)] = []
            for (row, start, stop), length, by_lookup in zip(spans, lengths, copied, strict=True):
                self._number += 1
                if by_lookup:
                    self._draft.pop(row, None)
                elif ahead:
                    behind = self._go_on(row, job.drafter, start, stop, length)
                    self._jobs[id(job)].append((row, behind))
                else:
                    self._take_in(row, job.drafter, start, stop, length)
        elif isinstance(job, VerifyJob) and job.drafted_ahead is not None:
            for (row, start, _), used, drafted in zip(
                spans, job.drafted_ahead.tolist(), job.num_drafted.tolist(), strict=True
            ):
                if used:
                    behind = self._behind.pop(row)
                    assert self._right[behind.number], "a draft behind a wrong guess is used"
                    assert (behind.first + 1, behind.length - 1) == (start + 1, drafted)
                    self._draft[row] = Draft(behind.drafter, behind.number, start + 1, drafted)
        super().submit(job)

    def _take_in(self, row: int, drafter: int, start: int, stop: int, length: int) -> None:
        held = self._held[row, drafter]
        assert all(held.get(position) == TEXT for position in range(start)), "upon phantom KV"
        held.update(dict.fromkeys(range(start, stop), TEXT))
        held.update(dict.fromkeys(range(stop, stop + length - 1), self._number))
        if length:
            self._draft[row] = Draft(drafter, self._number, stop, length)

    def _go_on(self, row: int, drafter: int, start: int, stop: int, length: int) -> Draft:
        draft, held = self._draft[row], self._held[row, drafter]
        assert (draft.drafter, draft.first + draft.length) == (drafter, stop)
        assert stop - start == 1
        assert all(held.get(position) == TEXT for position in range(draft.first))
        assert all(held.get(position) == draft.number for position in range(draft.first, start))
        held[start] = draft.number
        held.update(dict.fromkeys(range(stop, stop + length - 1), self._number))
        self._behind[row] = Draft(drafter, self._number, stop, length)
        return self._behind[row]

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        done = super().next_event(deadline_s)
        if done is not None and isinstance(done.result, DraftResult) and id(done.job) in self._jobs:
            assert done.result.guesses is not None
            for (row, behind), guess in zip(self._jobs.pop(id(done.job)), done.result.guesses.tolist(), strict=True):
                self._right[behind.number] = guess != WRONG_TOKEN
                self._settle(row, behind)
        if done is not None and isinstance(done.job, VerifyJob) and isinstance(done.result, VerifyResult):
            for row, emitted in zip(done.job.spans.rows.tolist(), done.result.num_emitted.tolist(), strict=True):
                draft = self._draft.pop(row, None)
                if draft is not None:
                    held = self._held[row, draft.drafter]
                    for position in range(draft.first, draft.first + emitted - 1):
                        if held.get(position) == draft.number:
                            held[position] = TEXT
                    if emitted - 1 == draft.length and row in self._behind:
                        self._whole[row] = self._behind[row].number
                        self._settle(row, self._behind[row])
        return done

    def _settle(self, row: int, behind: Draft) -> None:
        held = self._held[row, behind.drafter]
        came_true = self._whole.get(row) == behind.number and self._right.get(behind.number)
        if came_true and held.get(behind.first) == behind.number:
            held[behind.first] = TEXT

    def release(self, rows: IntArray) -> None:
        for row, drafter in list(self._held):
            if row in rows:
                del self._held[row, drafter]
        for books in (self._draft, self._behind, self._whole):
            for row in rows.tolist():
                books.pop(row, None)
        super().release(rows)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_draft_is_upon_phantom_kv_and_nothing_is_lost(data):
    count = data.draw(st.integers(1, 7))
    lengths = [data.draw(st.integers(1, 30)) for _ in range(count)]
    arrivals = sorted(data.draw(st.floats(0, 9)) for _ in range(count))
    trace = requests(count, lengths, arrivals)
    largest = -(-(3 + max(lengths)) // 4)
    k = data.draw(st.integers(0, 5))
    drafting = FixedDraftLength(k)
    if data.draw(st.booleans()):
        infos = SelectorSetting(INFOS, 1, 1, np.random.default_rng(0))
        drafting = MatchOrderDraftLength(infos, num_speculative_tokens=[k, 1, 2, 0], min_ngram_confidence=0)
    record = simulate(
        trace, synthetic_streams(trace, tuple(info.name for info in INFOS), LAW, seed=data.draw(st.integers(0, 99))),
        StatedTimes(0.5, 1, data.draw(st.sampled_from([0.01, 0.2, 2.0])), catch_up_s=data.draw(st.sampled_from([0.1, 9]))),
        infos=INFOS, selector=data.draw(st.sampled_from([spin, by_turns, by_chance, fixed("a")])),
        draft_length=drafting, max_num_seqs=data.draw(st.integers(1, 6)), block_size=4,
        num_kv_blocks=largest + data.draw(st.integers(0, 8)), placement=data.draw(st.sampled_from(PLACEMENTS)),
        pipeline=AHEAD, switching=data.draw(st.sampled_from(["on_demand", "ahead"])), interface=Audited,
    )  # fmt: skip
    check_identities(record, [request.id for request in trace])
    assert {one.request_id: one.output_tokens for one in record.requests} == dict(
        zip((request.id for request in trace), lengths, strict=True)
    )
    spans = record.spans
    ahead = np.array([kind == "draft_ahead" for kind in spans.kind], bool)
    assert (spans.used_tokens[~ahead] == 0).all()
    for row in range(count):
        # one place at a time, but for what is prepared beside a round
        places = [p for p in range(len(spans)) if row in spans.rows[spans.first_row[p] : spans.first_row[p + 1]]]
        rounds = [p for p in places if spans.kind[p] in ("draft", "verify", "prefill")]
        times = sorted((spans.start_s[place], spans.end_s[place]) for place in rounds)
        assert all(after[0] >= before[1] - 1e-12 for before, after in itertools.pairwise(times))


def refused(message: str, **changes) -> None:
    trace = requests(1, 5)
    with pytest.raises(UserError, match=message):
        simulate(
            trace, bernoulli(trace, {"a": 0.5, "b": 0.5}), StatedTimes(), pipeline=AHEAD,
            **{"selector": lambda setting: RandomSelector(setting, rounds_per_choice=1), **changes},
        )  # fmt: skip


def test_what_does_not_go_together_is_refused():
    refused("a token tree .* has many", draft_length=TreeDraftLength(branching=[2, 1]))
    refused("a token tree .* has many", selector=lambda setting: MergedSelector(setting, drafters=["a", "b"]))
    refused("models.drafters names none", infos=[DrafterInfo("prompt_lookup", "prompt_lookup")])
