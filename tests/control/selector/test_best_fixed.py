"""What hindsight would have fixed, beside the simulator's runs with every fixed choice."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.oracle.regret import decode_time_s
from spinbench.control.record import RunRecord
from spinbench.control.selector.best_fixed import BestFixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import FORESIGHT, INFOS, FreeCatchUp, run
from tests.simulation import simulated

MODEL = cost_model(INFOS)
MAX_TOKENS = 4


def setting(max_num_seqs: int, **known) -> SelectorSetting:
    rng = np.random.default_rng(0)
    return SelectorSetting(
        INFOS, max_num_seqs, len(FORESIGHT.max_new_tokens), rng, MAX_TOKENS, chooses_draft_length=True, **known
    )


def served(per_request: bool, max_num_seqs: int = 1) -> RunRecord:
    """A run by hindsight, K being part of the choice."""
    known = setting(max_num_seqs, foresight=FORESIGHT, cost_model=MODEL)
    selector = BestFixedSelector(known, per_request=per_request)
    return run(FreeCatchUp(MODEL), lambda _: selector, draft_length=selector, max_num_seqs=max_num_seqs)


def all_fixed(max_num_seqs: int = 1) -> dict[tuple[str, int], np.ndarray]:
    """Decoding time of each request under every fixed choice."""
    runs = {("plain", 0): run(FreeCatchUp(MODEL), PlainSelector, max_num_seqs=max_num_seqs)}
    for info in INFOS:
        for k in range(1, MAX_TOKENS + 1):
            choice = simulated.fixed(info.name)
            runs[info.name, k] = run(FreeCatchUp(MODEL), choice, draft_length=k, max_num_seqs=max_num_seqs)
    return {name: decode_time_s(record) for name, record in runs.items()}


def test_alone_it_takes_what_the_best_of_all_fixed_choices_takes():
    times = all_fixed()
    record = served(per_request=False)
    assert decode_time_s(record).sum() == pytest.approx(min(time_s.sum() for time_s in times.values()), rel=1e-9)
    own = decode_time_s(served(per_request=True))
    assert own == pytest.approx(np.min(list(times.values()), axis=0), rel=1e-9)
    assert own.sum() < decode_time_s(record).sum()


def test_in_a_batch_it_is_near_the_best():
    times = sorted(time_s.sum() for time_s in all_fixed(max_num_seqs=4).values())
    assert times[0] * (1 - 1e-9) <= decode_time_s(served(False, max_num_seqs=4)).sum() <= 1.05 * times[0]


def test_real_models_cannot_be_known_in_advance():
    with pytest.raises(UserError, match="engine=simulation"):
        BestFixedSelector(setting(1, cost_model=MODEL), per_request=False)
    with pytest.raises(UserError, match="at least one drafter"):
        BestFixedSelector(replace(setting(1, foresight=FORESIGHT), drafters=()), per_request=False)
