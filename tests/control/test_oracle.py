"""The oracle: by brute force, beside every policy, and played in the simulator."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.cost_model import CostModel
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import CatchUpJob, DraftJob, Job
from spinbench.control.ngram_index import NgramIndex
from spinbench.control.oracle.batch_bound import batch_bound
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.hindsight import fixed_settings
from spinbench.control.oracle.optimum import Optimum, oracle
from spinbench.control.oracle.regret import Regret, decode_time_s
from spinbench.control.oracle.round_cost import exact_round_cost, gap_of
from spinbench.control.record import RunRecord
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.epsilon_greedy import EpsilonGreedySelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.simulation.body import JobTimes
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from spinbench.workload.request import Request
from tests.control.made_costs import cost_model
from tests.simulation import simulated
from tests.workload.acceptance.made_table import EOS, made_table, request

INFOS = (
    DrafterInfo("a", "model"),
    DrafterInfo("b+prompt_lookup", "lookup_then_model", min_match_tokens=2),
    DrafterInfo("prompt_lookup", "prompt_lookup", max_match_tokens=2),
)
MAX_K = 3


def foresight_of(requests: Sequence[Request], streams, infos=INFOS, prompt_tokens: Sequence[int] | None = None):
    limits = np.array([one.max_new_tokens for one in requests])
    prompts = prompt_tokens or [one.prompt_len_tokens or 0 for one in requests]
    return Foresight(streams, tuple(infos), np.array(prompts), limits)


class BruteForce:
    """All ways to emit one text: every drafter and K at every turn, fates read off the text itself."""

    def __init__(self, model: CostModel, ranks: dict[str, list[int]], prompt: list[int], text: list[int]) -> None:
        self._model, self._ranks, self._prompt, self._text = model, ranks, prompt, text
        self._gap_s = gap_of(model, "verify", 1)

    def least_s(self) -> float:
        if len(self._text) == 1:
            return 0.0
        return self._from(1) + gap_of(self._model, "prefill", 1) - self._gap_s

    def _from(self, emitted: int) -> float:
        left, context = len(self._text) - emitted, len(self._prompt) + emitted
        if not left:
            return 0.0
        ways = [self._gap_s + self._model.verify_s(1, 0, context) + self._from(emitted + 1)]
        for drafter, info in enumerate(INFOS):
            for k in range(1, MAX_K + 1):
                by_lookup, drafted, accepted = self._fate(info, emitted, min(k, left - 1))
                if k < left:
                    seconds = self._model.draft_s(drafter, 1, k, context, by_lookup=by_lookup)
                    seconds += gap_of(self._model, "draft", 1) + self._gap_s
                    seconds += self._model.verify_s(1, drafted, context)
                    ways.append(seconds + self._from(emitted + accepted + 1))
        return min(ways)

    def _fate(self, info: DrafterInfo, emitted: int, k: int) -> tuple[bool, int, int]:
        """Whether it copies, drafted tokens, accepted ones."""
        rest = self._text[emitted:]
        index = NgramIndex([*self._prompt, *self._text[:emitted]])
        if info.drafts_by_lookup(np.array([index.match_order()]))[0]:
            draft = index.draft(k, info.max_match_tokens, info.min_match_tokens)
            right = [ours == theirs for ours, theirs in zip(draft, rest, strict=False)]
            return True, len(draft), (*right, False).index(False)
        right = [rank == 0 for rank in self._ranks[info.name.removesuffix("+prompt_lookup")][emitted : emitted + k]]
        return False, k, (*right, False).index(False)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_sequence_of_choices_is_faster(data):
    texts = data.draw(st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=5), min_size=1, max_size=2))
    prompts = [data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4)) for _ in texts]
    ranks = {name: [[data.draw(st.integers(0, 1)) for _ in text] for text in texts] for name in "ab"}
    scale = data.draw(st.sampled_from([0.01, 0.2, 1.0]))
    model = cost_model(INFOS, data.draw(st.integers(0, 999)), scale)
    table = made_table(ranks, prompts=prompts, token_ids=texts)
    asked = [request(row, len(text)) for row, text in enumerate(texts)]
    streams = streams_from_table(table, asked, [info.name for info in INFOS])
    found = oracle(foresight_of(asked, streams, prompt_tokens=list(map(len, prompts))), model, MAX_K)
    for row, text in enumerate(texts):
        search = BruteForce(model, {name: ranks[name][row] for name in ranks}, prompts[row], text)
        assert found.time_s[row] == pytest.approx(search.least_s(), rel=1e-12)


LAW = SyntheticLaw(
    (
        DifficultyClass("easy", 1.0, {"a": (0.7,), "b": (0.85,)}, LookupLaw((0.2, 0.1, 0.3), (0.2, 0.5, 0.9))),
        DifficultyClass("hard", 1.0, {"a": (0.3, 0.2), "b": (0.4,)}, LookupLaw((0.1, 0.0, 0.0), (0.2, 0.0, 0.0))),
    )
)
TRACE = simulated.requests(12, [1, 2, 3, 40, 50, 60, 35, 45, 20, 30, 25, 55])
STREAMS = synthetic_streams(TRACE, tuple(info.name for info in INFOS), LAW, seed=3)
FORESIGHT = foresight_of(TRACE, STREAMS)
GOODPUT = {"reward": "round_goodput", "decay": 0.95, "prior_rounds": 2}
SELECTORS: dict[str, simulated.MakeSelector] = {
    "plain": PlainSelector,
    **{f"fixed {info.name}": simulated.fixed(info.name) for info in INFOS},
    "random": lambda setting: RandomSelector(setting, rounds_per_choice=1),
    "round_robin": lambda setting: RoundRobinSelector(setting, rounds_per_choice=2),
    "epsilon_greedy": lambda setting: EpsilonGreedySelector(setting, epsilon=0.2, rounds_per_choice=2, **GOODPUT),
    "spin": lambda setting: SpinSelector(
        setting, rounds_per_slot=2, slots_per_epoch=4, exploring_slots=1, per_request=True, capacity=None, **GOODPUT
    ),
}


def run(times: JobTimes, selector: simulated.MakeSelector, **decisions) -> RunRecord:
    return simulated.simulate(TRACE, STREAMS, times, infos=INFOS, selector=selector, **decisions)


@pytest.mark.parametrize("selector", SELECTORS)
def test_no_policy_is_faster(selector):
    model = cost_model(INFOS)
    best = oracle(FORESIGHT, model, 6)
    for k in (1, 3, 6):
        record = run(model, SELECTORS[selector], draft_length=k)
        decoding = decode_time_s(record)
        by_id = {one.request_id: one for one in record.requests}
        for row, one in enumerate(by_id[name] for name in record.rounds.request_ids):
            # served one at a time, a request's rounds fill the time from its first token to its last
            assert decoding[row] == pytest.approx((one.finish_s or 0) - (one.first_token_s or 0), abs=1e-9)
        assert (best.time_s <= decoding + 1e-9).all()
        assert best.time_s.sum() < 0.95 * decoding.sum()


class Played:
    """Selector and draft length in one: what the oracle chose."""

    needs_confidence = False
    max_num_speculative_tokens = 6

    def __init__(self, chosen: Optimum) -> None:
        self._chosen = chosen

    def choose(self, context: RoundContext) -> np.ndarray:
        return self._chosen.drafter[self._at(context)].astype(np.int64)

    def lengths(self, context: RoundContext, drafters: np.ndarray) -> np.ndarray:
        return self._chosen.num_speculative_tokens[self._at(context)].astype(np.int64)

    def observe(self, outcome: RoundOutcome) -> None: ...

    def _at(self, context: RoundContext) -> np.ndarray:
        return STREAMS.offsets[context.rows] + context.output_tokens


class FreeCatchUp:
    """A cost model's times but for what a drafter has not followed: it costs nothing."""

    warnings = ()

    def __init__(self, model: CostModel) -> None:
        self._model = model

    def job_s(self, job: Job) -> float:
        if isinstance(job, CatchUpJob):
            return 0.0
        if isinstance(job, DraftJob):
            (k,), (by_lookup,), (context,) = job.num_speculative_tokens, job.by_lookup, job.spans.stop
            return float(self._model.draft_s(job.drafter, 1, int(k), float(context), by_lookup=bool(by_lookup)))
        return self._model.job_s(job)

    def gap_s(self, job: Job) -> float:
        return 0.0 if isinstance(job, CatchUpJob) else self._model.gap_s(job)


def test_its_choices_take_its_time():
    model = cost_model(INFOS)
    best = oracle(FORESIGHT, model, 6)
    played = Played(best)
    record = run(FreeCatchUp(model), lambda _: played, draft_length=played)
    assert decode_time_s(record) == pytest.approx(best.time_s, rel=1e-9)
    assert set(record.rounds.drafter.tolist()) == {NO_DRAFTER, 0, 1, 2}
    assert (record.rounds.accepted == record.rounds.num_speculative_tokens).all()


def test_fixed_settings_take_what_a_run_with_them_takes():
    model = cost_model(INFOS)
    fixed = fixed_settings(FORESIGHT, exact_round_cost(model, FORESIGHT, 3))
    assert len(fixed.time_s) == 1 + 3 * 3
    for drafter, k, time_s in zip(fixed.drafter, fixed.num_speculative_tokens, fixed.time_s, strict=True):
        selector = PlainSelector if drafter == NO_DRAFTER else simulated.fixed(INFOS[drafter].name)
        record = run(FreeCatchUp(model), selector, draft_length=int(k))
        assert decode_time_s(record) == pytest.approx(time_s, rel=1e-9)
    best = oracle(FORESIGHT, model, 3).time_s
    own = fixed.time_s.min(0)
    assert (fixed.time_s[fixed.best_per_request, np.arange(len(own))] == own).all()
    assert best.sum() < own.sum() < fixed.time_s[fixed.best].sum() < fixed.time_s[0].sum()


def test_a_text_that_stops_early_is_drafted_beyond_by_a_fixed_k():
    # 3 tokens of 10: the first from the prefill, then the drafter is right about the second, and of no use for the end
    table = made_table({"a": [[0, 0, 0]]}, token_ids=[[4, 5, EOS]], stopped=[True])
    asked, infos = [request(0, 10)], INFOS[:1]
    foresight = foresight_of(asked, streams_from_table(table, asked, ["a"]), infos, [1])
    model = cost_model(infos)
    cost = exact_round_cost(model, foresight, 3)
    fixed = fixed_settings(foresight, cost)
    record = simulated.simulate(
        [request(0, 10, prompt=None, prompt_len_tokens=1)], foresight.streams, FreeCatchUp(model), infos=infos,
        selector=simulated.fixed("a"), draft_length=3, eos_token_ids=frozenset({EOS}),
    )  # fmt: skip
    assert record.rounds.drafted.tolist() == [3]
    assert decode_time_s(record)[0] == pytest.approx(fixed.time_s[3, 0], rel=1e-9)
    assert oracle(foresight, model, 3).time_s[0] <= fixed.time_s[1, 0] < fixed.time_s[3, 0]


def test_without_drafters_it_is_plain_decoding():
    streams = synthetic_streams(TRACE, (), LAW, seed=3)
    model = cost_model(())
    foresight = foresight_of(TRACE, streams, ())
    best = oracle(foresight, model, 6)
    plain = simulated.simulate(TRACE, streams, model)
    assert best.time_s == pytest.approx(decode_time_s(plain), rel=1e-9)
    assert (best.drafter == NO_DRAFTER).all()
    assert fixed_settings(foresight, exact_round_cost(model, foresight, 6)).time_s[0] == pytest.approx(best.time_s)


def test_one_token_takes_no_round():
    only = simulated.requests(2, 1)
    foresight = foresight_of(only, synthetic_streams(only, STREAMS.drafters, LAW, seed=0))
    assert oracle(foresight, cost_model(INFOS), 4).time_s.tolist() == [0.0, 0.0]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999), max_num_seqs=st.integers(1, 6), layout=st.sampled_from(["packed", "padded"]),
    k=st.integers(0, 5), selector=st.sampled_from(list(SELECTORS)), scale=st.sampled_from([0.01, 0.3]),
)  # fmt: skip
def test_no_batch_decodes_in_less_than_its_bound(seed, max_num_seqs, layout, k, selector, scale):
    model = cost_model(INFOS, seed, scale)
    record = run(
        model, SELECTORS[selector], draft_length=k, max_num_seqs=max_num_seqs, layout=simulated.LAYOUTS[layout],
        seed=seed,
    )  # fmt: skip
    bound = batch_bound(FORESIGHT, model, 5, max_num_seqs, layout).time_s.sum()
    assert 0 < bound <= decode_time_s(record).sum()


def test_the_bound_is_met_by_full_batches_of_equal_requests():
    # nothing is accepted, so all decode plainly, in step, and the batch is full to the end
    equal = simulated.requests(4, 30)
    streams = simulated.bernoulli(equal, {"d": 0.0})
    infos = (DrafterInfo("d", "model"),)
    model = cost_model(infos)
    record = simulated.simulate(equal, streams, model, max_num_seqs=4)
    bound = batch_bound(foresight_of(equal, streams, infos), model, 4, 4).time_s.sum()
    assert bound <= decode_time_s(record).sum() <= 1.1 * bound


def test_regret_by_hand():
    # 2 and 4 seconds of 3 and 5: shares 2/3 and 4/5; 6 tokens in 2 s make 3 more in the third second
    regret = Regret(np.array([3.0, 5.0, 0.0]), np.array([2.0, 4.0, 0.0]), np.array([6, 8, 0]))
    assert regret.share_of_oracle[:2].tolist() == [2 / 3, 4 / 5]
    assert np.isnan(regret.share_of_oracle[2])
    assert regret.regret_s.tolist() == [1.0, 1.0, 0.0]
    assert regret.regret_tokens[:2].tolist() == [3.0, 2.0]
    # 6 s of 8 s for 14 tokens
    assert regret.total.share_of_oracle.tolist() == [0.75]
    assert regret.total.regret_tokens[0] == pytest.approx(14 * 2 / 6)


def test_parts_of_different_runs_do_not_go_together():
    with pytest.raises(ValueError, match="the streams are of drafters"):
        foresight_of(TRACE, STREAMS, INFOS[:2])
    with pytest.raises(ValueError, match="the streams have 12 requests"):
        foresight_of(TRACE[1:], STREAMS)
