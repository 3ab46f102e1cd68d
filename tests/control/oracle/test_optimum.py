"""The oracle: by brute force, beside every policy, and played in the simulator."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.oracle.hindsight import fixed_settings
from spinbench.control.oracle.optimum import optimum, oracle
from spinbench.control.oracle.round_cost import exact_round_cost
from spinbench.control.placement import Placement
from spinbench.control.regret import decode_time_s
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.hindsight_costs import hindsight_costs
from spinbench.control.selector.oracle import OracleSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.synthetic import synthetic_streams
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import (
    FORESIGHT,
    INFOS,
    LAW,
    SELECTORS,
    STREAMS,
    TRACE,
    FreeCatchUp,
    foresight_of,
    run,
)
from tests.simulation import simulated
from tests.workload.acceptance.made_table import made_table, request

MAX_K = 3


class BruteForce:
    """All ways to emit one text: every drafter and K at every turn, fates read off the text itself."""

    def __init__(self, model: CostModel, ranks: dict[str, list[int]], prompt: list[int], text: list[int]) -> None:
        self._model, self._ranks, self._prompt, self._text = model, ranks, prompt, text
        self._gap_s = model.gap("verify").of(1)

    def least_s(self) -> float:
        if len(self._text) == 1:
            return 0.0
        return self._from(1) + self._model.gap("prefill").of(1) - self._gap_s

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
                    seconds += self._model.gap("draft").of(1) + self._gap_s
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


def _setting(model: CostModel | None, foresight: Foresight | None = FORESIGHT) -> SelectorSetting:
    return SelectorSetting(INFOS, 1, len(TRACE), np.random.default_rng(0), 6, model, foresight)


def test_the_selector_that_follows_it_takes_its_time():
    model = cost_model(INFOS)
    best = oracle(FORESIGHT, model, 6)
    played = OracleSelector(_setting(model))
    record = run(FreeCatchUp(model), lambda _: played, draft_length=played)
    assert decode_time_s(record) == pytest.approx(best.time_s, rel=1e-9)
    assert set(record.rounds.drafter.tolist()) == {NO_DRAFTER, 0, 1, 2}
    assert (record.rounds.accepted == record.rounds.num_speculative_tokens).all()


def test_alone_it_is_exact_on_lanes_of_their_own_and_at_any_depth():
    model, overlap = cost_model(INFOS), Overlap(1.5, 2.0, 2.5, 9.0)
    for placement, slowed in (("own_devices", None), ("drafters_together", overlap)):
        setting = replace(
            _setting(model), placement=Placement(placement), overlap=slowed or NOT_SLOWED, depths=range(3, 4)
        )
        played = OracleSelector(setting)
        (cost,) = hindsight_costs(setting, "oracle")
        best = optimum(FORESIGHT, cost)
        record = run(
            FreeCatchUp(model), lambda _, played=played: played, draft_length=played, placement=placement,
            overlap=slowed, pipeline=simulated.micro_batches(3),
        )  # fmt: skip
        assert decode_time_s(record) == pytest.approx(best.time_s, rel=1e-9)
        # the lanes are slow while they are alone, too
        assert best.time_s.sum() >= (1.3 if slowed else 1) * oracle(FORESIGHT, model, 6).time_s.sum() * (1 - 1e-9)


def test_beside_other_micro_batches_a_plan_drafts_more():
    model = cost_model(INFOS, drafter_scale=0.5)
    (by_turns,), (beside,) = (
        hindsight_costs(
            replace(_setting(model), max_num_seqs=4, placement=Placement("own_devices"), depths=depths), "oracle"
        )
        for depths in (range(1, 2), range(2, 3))
    )
    assert (by_turns.num_requests, beside.num_requests) == (4, 2)
    tokens = [int(optimum(FORESIGHT, cost).num_speculative_tokens.sum()) for cost in (by_turns, beside)]
    assert tokens[1] > 1.1 * tokens[0]


def test_drafts_made_ahead_are_refused():
    ahead = replace(_setting(cost_model(INFOS)), drafts_ahead=True)
    with pytest.raises(UserError, match=r"set pipeline=serial or micro_batches, or selector=best_fixed"):
        OracleSelector(ahead)
    (cost,) = hindsight_costs(ahead, "best_fixed")
    with pytest.raises(ValueError, match="has no cost of its own"):
        optimum(FORESIGHT, cost)


def test_the_selector_pays_for_catch_up_and_loses_nothing_in_a_batch():
    model = cost_model(INFOS)
    played = OracleSelector(_setting(model))
    assert (
        decode_time_s(run(model, lambda _: played, draft_length=played)).sum()
        > oracle(FORESIGHT, model, 6).time_s.sum()
    )
    record = run(model, lambda _: played, draft_length=played, max_num_seqs=4)
    assert (record.rounds.accepted == record.rounds.num_speculative_tokens).all()


def test_nobody_follows_it_on_real_models_or_without_a_cost_model():
    with pytest.raises(UserError, match=r"selector=oracle knows every text in advance.* needs engine=simulation"):
        OracleSelector(_setting(cost_model(INFOS), None))
    with pytest.raises(UserError, match=r"selector=oracle .* needs durations that a profile predicts"):
        run(cost_model(INFOS), lambda _: OracleSelector(_setting(None)))


def test_without_drafters_it_is_plain_decoding():
    streams = synthetic_streams(TRACE, (), LAW, seed=3)
    model = cost_model(())
    foresight = foresight_of(TRACE, streams, ())
    best = oracle(foresight, model, 6)
    plain = simulated.simulate(TRACE, streams, model)
    assert best.time_s == pytest.approx(decode_time_s(plain), rel=1e-9)
    assert (best.drafter == NO_DRAFTER).all()
    (fixed,) = fixed_settings(foresight, [exact_round_cost(model, foresight, 6)])
    assert fixed.time_s[0] == pytest.approx(best.time_s)


def test_one_token_takes_no_round():
    only = simulated.requests(2, 1)
    foresight = foresight_of(only, synthetic_streams(only, STREAMS.drafters, LAW, seed=0))
    assert oracle(foresight, cost_model(INFOS), 4).time_s.tolist() == [0.0, 0.0]


def test_parts_of_different_runs_do_not_go_together():
    with pytest.raises(ValueError, match="the streams are of drafters"):
        foresight_of(TRACE, STREAMS, INFOS[:2])
    with pytest.raises(ValueError, match="the streams have 12 requests"):
        foresight_of(TRACE[1:], STREAMS)
