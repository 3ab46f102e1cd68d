"""The bound for batches: below every run, and met by runs that it is exact for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.oracle.batch_bound import batch_bound
from spinbench.control.oracle.optimum import oracle
from spinbench.control.regret import decode_time_s
from spinbench.control.selector.plain import PlainSelector
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import FORESIGHT, INFOS, SELECTORS, FreeCatchUp, foresight_of, run
from tests.simulation import simulated


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999), max_num_seqs=st.integers(1, 6), layout=st.sampled_from(list(simulated.LAYOUTS)),
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


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("drafter", ["d", "prompt_lookup"])
def test_the_bound_is_met_by_full_batches_of_equal_requests(drafter, rate):
    # either nothing is accepted, so all decode plainly, or everything, so all draft as much as they can; always in step
    equal = simulated.requests(4, 1 + 5 * 8)
    law = SyntheticLaw((DifficultyClass("all", 1.0, {"d": (rate,)}, LookupLaw((0.0, 0.0, 1.0), (rate,) * 3)),))
    streams = synthetic_streams(equal, (drafter,), law, seed=0)
    infos = (DrafterInfo(drafter, "model" if drafter == "d" else "prompt_lookup"),)
    model = cost_model(infos, drafter_scale=0.1, straight=True)
    record = simulated.simulate(
        equal, streams, FreeCatchUp(model), infos=infos, max_num_seqs=4, draft_length=4,
        selector=simulated.fixed(drafter) if rate else PlainSelector,
    )  # fmt: skip
    bound = batch_bound(foresight_of(equal, streams, infos), model, 4, 4).time_s.sum()
    assert bound <= decode_time_s(record).sum() <= 1.02 * bound


def test_for_one_at_a_time_the_exact_optimum_is_no_less():
    model = cost_model(INFOS, seed=1)
    exact = oracle(FORESIGHT, model, 5).time_s.sum()
    assert 0.7 * exact <= batch_bound(FORESIGHT, model, 5, 1).time_s.sum() <= exact
