"""NormalHedge's weights, and what the hedge selector learns from all drafters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.full_information import FullFeedback, LearnsFromAll
from spinbench.control.selector.hedge import HedgeSelector
from spinbench.control.selector.normal_hedge import normal_hedge_weights
from spinbench.control.selector.protocol import SelectorSetting
from tests.control.contexts import context, outcome

K = 4
REGRETS = st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=1, max_size=7)


def _by_bisection(regret: list[float]) -> np.ndarray:
    x = np.maximum(regret, 0.0)
    if not x.max() > 0:
        return np.full(len(x), 1 / len(x))
    x = x / x.max()  # weights do not change with the unit of regret
    c = brentq(lambda c: np.log(np.exp(x**2 / (2 * c)).mean()) - 1, 1e-2, 10.0, xtol=1e-15)
    weights = x / c * np.exp(x**2 / (2 * c))
    return weights / weights.sum()


@given(st.lists(REGRETS, min_size=1, max_size=4))
def test_weights_solve_the_equation(rows):
    width = min(map(len, rows))
    rows = [row[:width] for row in rows]
    rows = [[value if abs(value) > 1e-6 else 0.0 for value in row] for row in rows]
    expected = np.array([_by_bisection(row) for row in rows])
    assert normal_hedge_weights(np.array(rows)) == pytest.approx(expected, abs=1e-9)


def _selector(loss="acceptance_length", per_request=True, num_drafters=3) -> HedgeSelector:
    drafters = tuple(DrafterInfo(name, "model") for name in "abc"[:num_drafters])
    setting = SelectorSetting(drafters, 4, 5, np.random.default_rng(0), K)
    return HedgeSelector(setting, loss=loss, per_request=per_request)


def _feedback(rows: list[int], num_positions: list[int], accepted: list) -> FullFeedback:
    return FullFeedback(np.array(rows), np.array(num_positions), np.array(accepted))


def test_it_is_one_that_learns_from_all():
    assert isinstance(_selector(), LearnsFromAll)


def test_each_request_follows_the_drafter_that_would_have_been_best():
    selector = _selector()
    for _ in range(30):
        selector.observe_all(_feedback([0, 1], [1, 1], [[[4, 0, 2]], [[0, 2, 4]]]))
    weights = selector.probabilities(np.array([0, 1, 2]))
    assert weights[0, 0] > 0.95
    assert weights[1, 2] > 0.95
    assert weights[2] == pytest.approx([1 / 3] * 3)
    assert selector.choose(context(2)).tolist() == [0, 2]


def test_all_learn_together_if_told_so():
    selector = _selector(per_request=False)
    selector.observe_all(_feedback([0, 1], [1, 1], [[[4, 0, 2]], [[4, 0, 2]]]))
    assert (selector.probabilities(np.array([3]))[0] == selector.probabilities(np.array([0]))[0]).all()
    assert selector.probabilities(np.array([3]))[0].argmax() == 0


def test_positions_that_are_not_clear_yet_do_not_count():
    one, padded = _selector(), _selector()
    one.observe_all(_feedback([0], [1], [[[4, 0, 2]]]))
    padded.observe_all(_feedback([0, 1], [1, 0], [[[4, 0, 2], [0, 4, 4]], [[0, 4, 4], [0, 4, 4]]]))
    assert (padded.probabilities(np.array([0])) == one.probabilities(np.array([0]))).all()
    assert padded.probabilities(np.array([1]))[0] == pytest.approx([1 / 3] * 3)


def test_the_papers_loss_by_hand():
    assert _selector().losses(np.array([0, 1, 4])) == pytest.approx([1 - 1 / 5, 1 - 2 / 5, 0])


def test_a_loss_by_time_by_hand():
    selector = _selector("round_goodput")
    assert selector.losses(np.array([4, 4, 4])).tolist() == [0, 0, 0]  # nothing known of time: as if all were alike
    selector.observe(outcome([0, 1, 2], [0, 0, 1], [0, 0, 0], [1.0, 3.0, 0.0], 1.0))
    # mean rounds of a: (2 + 4) / 2 = 3 s, of b: 1 s, c unknown, so as b; best possible: 5 tokens in 1 s
    assert selector.losses(np.array([4, 1, 0])) == pytest.approx([1 - 5 / 3 / 5, 1 - 2 / 5, 1 - 1 / 5])
