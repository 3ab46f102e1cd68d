"""Fixed drafters and draft lengths beside the simulator's runs with them."""

from dataclasses import replace

import pytest

from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.round_schedule import RoundSchedule
from spinbench.control.oracle.hindsight import fixed_settings
from spinbench.control.oracle.optimum import oracle
from spinbench.control.oracle.round_cost import exact_round_cost
from spinbench.control.pipeline import DraftWhileVerifyPipeline
from spinbench.control.placement import Placement
from spinbench.control.regret import decode_time_s
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.plain import PlainSelector
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import FORESIGHT, INFOS, FreeCatchUp, foresight_of, run
from tests.simulation import simulated
from tests.workload.acceptance.made_table import EOS, made_table, request


def test_fixed_settings_take_what_a_run_with_them_takes():
    model = cost_model(INFOS)
    (fixed,) = fixed_settings(FORESIGHT, [exact_round_cost(model, FORESIGHT, 3)])
    assert len(fixed.time_s) == 1 + 3 * 3
    for drafter, k, time_s in zip(fixed.drafter, fixed.num_speculative_tokens, fixed.time_s, strict=True):
        selector = PlainSelector if drafter == NO_DRAFTER else simulated.fixed(INFOS[drafter].name)
        record = run(FreeCatchUp(model), selector, draft_length=int(k))
        assert decode_time_s(record) == pytest.approx(time_s, rel=1e-9)
    best = oracle(FORESIGHT, model, 3).time_s
    own = fixed.time_s.min(0)
    assert best.sum() < own.sum() < fixed.time_s.sum(1).min() < fixed.time_s[0].sum()


def test_a_text_that_stops_early_is_drafted_beyond_by_a_fixed_k():
    # 3 tokens of 10: the first from the prefill, then the drafter is right about the second, and of no use for the end
    table = made_table({"a": [[0, 0, 0]]}, token_ids=[[4, 5, EOS]], stopped=[True])
    asked, infos = [request(0, 10)], INFOS[:1]
    foresight = foresight_of(asked, streams_from_table(table, asked, ["a"]), infos, [1])
    model = cost_model(infos)
    cost = exact_round_cost(model, foresight, 3)
    (fixed,) = fixed_settings(foresight, [cost])
    record = simulated.simulate(
        [request(0, 10, prompt=None, prompt_len_tokens=1)], foresight.streams, FreeCatchUp(model), infos=infos,
        selector=simulated.fixed("a"), draft_length=3, eos_token_ids=frozenset({EOS}),
    )  # fmt: skip
    assert record.rounds.drafted.tolist() == [3]
    assert decode_time_s(record)[0] == pytest.approx(fixed.time_s[3, 0], rel=1e-9)
    assert oracle(foresight, model, 3).time_s[0] <= fixed.time_s[1, 0] < fixed.time_s[3, 0]


SLOWED = Overlap(target_alone=1.1, target_beside=1.5, drafter_alone=1.2, drafter_beside=2.0)


@pytest.mark.parametrize(
    ("placement", "overlap"), [("own_devices", None), ("shared", None), ("drafters_together", SLOWED)]
)
def test_drafts_made_ahead_are_priced_as_they_come_true(placement, overlap):
    """Alone, and without the host's gaps: what two jobs that end together are behind them is not known."""
    infos = (INFOS[0], INFOS[2])
    model = replace(cost_model(infos, drafter_scale=0.4), gaps={})
    rates = DifficultyClass("all", 1.0, {"a": (0.85,)}, LookupLaw((0.2, 0.1, 0.3), (0.2, 0.5, 0.9)))
    trace = simulated.requests(4, [1, 2, 60, 45])
    streams = synthetic_streams(trace, tuple(info.name for info in infos), SyntheticLaw((rates,)), seed=5)
    foresight = foresight_of(trace, streams, infos)
    schedule = RoundSchedule(Placement(placement), drafts_ahead=True, overlap=overlap or NOT_SLOWED)
    (fixed,) = fixed_settings(foresight, [exact_round_cost(model, foresight, 4, schedule=schedule)])
    for drafter, k, time_s in zip(fixed.drafter, fixed.num_speculative_tokens, fixed.time_s, strict=True):
        selector = PlainSelector if drafter == NO_DRAFTER else simulated.fixed(infos[drafter].name)
        record = simulated.simulate(
            trace, streams, FreeCatchUp(model), infos=infos, selector=selector, draft_length=int(k),
            pipeline=DraftWhileVerifyPipeline(), placement=placement, overlap=overlap,
        )  # fmt: skip
        assert record.spans.used_tokens.any() == (drafter == 0)
        by_id = {one.request_id: one for one in record.requests}
        found = [(by_id[one.id].finish_s or 0) - (by_id[one.id].first_token_s or 0) for one in trace]
        assert time_s == pytest.approx(found, rel=1e-9, abs=1e-12)
