"""Fixed drafters and draft lengths beside the simulator's runs with them."""

import numpy as np
import pytest

from spinbench.control.oracle.hindsight import fixed_settings
from spinbench.control.oracle.optimum import oracle
from spinbench.control.oracle.regret import decode_time_s
from spinbench.control.oracle.round_cost import exact_round_cost
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.plain import PlainSelector
from spinbench.workload.acceptance.from_table import streams_from_table
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import FORESIGHT, INFOS, FreeCatchUp, foresight_of, run
from tests.simulation import simulated
from tests.workload.acceptance.made_table import EOS, made_table, request


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
