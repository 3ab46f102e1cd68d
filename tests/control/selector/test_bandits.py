"""Indices and probabilities of the bandits by hand, and how rewards are scaled."""

from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.selector.exp3spec import Exp3SpecSelector
from spinbench.control.selector.greedy import GreedySelector
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.random_draw import random_draw
from spinbench.control.selector.reward import ScaledReward
from spinbench.control.selector.ucb import UpperConfidence
from spinbench.control.selector.ucb1 import Ucb1Selector
from spinbench.control.selector.ucbspec import UcbSpecSelector
from tests.control.contexts import context, outcome

K = 4


def _setting(num_drafters: int = 2) -> SelectorSetting:
    drafters = tuple(DrafterInfo(name, "model") for name in "abc"[:num_drafters])
    return SelectorSetting(drafters, 4, 20, np.random.default_rng(0), K)


def test_goodput_is_scaled_by_the_largest_seen():
    reward = ScaledReward("round_goodput", _setting())
    # (3 + 1) / (1 + 1) = 2 and (0 + 1) / (3 + 1) tokens/s; one without a drafter is no reward and sets no scale
    assert reward.unscaled(outcome([0, 1, 2], [0, 1, -1], [3, 0, 0], [1, 3, 0]))[:2].tolist() == [2.0, 0.25]
    assert reward.scale == 2.0
    reward.unscaled(outcome([0], [0], [4], [0.25], 0.75))
    assert reward.scale == 5.0
    reward.unscaled(outcome([0], [0], [0], [9.0]))
    assert reward.scale == 5.0


def test_acceptance_is_scaled_by_the_longest_draft():
    reward = ScaledReward("acceptance_length", _setting())
    assert (reward.unscaled(outcome([0, 1], [0, 1], [3, 0], [1, 9])) / reward.scale).tolist() == [0.75, 0.0]
    assert ScaledReward("draft_goodput", _setting()).unscaled(outcome([0], [0], [3], [1.5])).tolist() == [2.0]


def _chosen_after(selector, accepted: dict[int, list[int]]) -> int:
    """The choice after rounds of request 0 that were accepted so."""
    for drafter, counts in accepted.items():
        for count in counts:
            selector.observe(outcome([0], [drafter], [count], [0.0]))
    return int(selector.choose(context(1))[0])


RULES = {
    # means 3/4 and 1/4 of the scale; n = 4, of which 3 and 1
    "ucb1": (
        lambda c: Ucb1Selector(
            _setting(), exploration=c, rounds_per_choice=1, reward="acceptance_length", per_request=True
        ),
        [sqrt(2 * log(4) / n) for n in (3, 1)],
    ),
    "ucbspec": (
        lambda c: UcbSpecSelector(
            _setting(), delta=0.1, exploration=c, rounds_per_choice=1, reward="acceptance_length", per_request=True
        ),
        # equation 6 over L, 2 drafters, t = 4
        [sqrt((1 + n) / n**2 * (1 + 2 * log(2 * 4**2 * sqrt(1 + n) / 0.1))) / 2 for n in (3, 1)],
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_the_radius_is_as_published(name):
    make, radius = RULES[name]
    # drafter 1 is chosen once c (r_1 - r_0) outweighs the means' difference, 0.5
    turn = 0.5 / (radius[1] - radius[0])
    assert _chosen_after(make(turn * 0.999), {0: [3, 3, 3], 1: [1]}) == 0
    assert _chosen_after(make(turn * 1.001), {0: [3, 3, 3], 1: [1]}) == 1


@pytest.mark.parametrize("per_request", [True, False])
def test_one_bandit_for_all_or_one_each(per_request):
    selector = Ucb1Selector(
        _setting(), exploration=0, rounds_per_choice=1, reward="acceptance_length", per_request=per_request
    )
    selector.observe(outcome([0, 0], [0, 1], [1, 4], [0, 0]))
    selector.observe(outcome([1, 1], [0, 1], [4, 0], [0, 0]))
    # all together: 5/2 against 4/2
    assert selector.choose(context(2)).tolist() == ([1, 0] if per_request else [0, 0])


def test_every_drafter_is_tried_before_one_is_tried_again():
    selectors: list[UpperConfidence | GreedySelector] = [
        Ucb1Selector(_setting(3), exploration=0, rounds_per_choice=1, reward="round_goodput", per_request=True),
        GreedySelector(_setting(3), rounds_per_choice=1, reward="round_goodput", decay=1, prior_rounds=1),
    ]
    for selector in selectors:
        tried = []
        for index in range(3):
            (drafter,) = selector.choose(context(1, index)).tolist()
            selector.observe(outcome([0], [drafter], [4 - drafter], [1.0]))
            tried.append(drafter)
        assert sorted(tried) == [0, 1, 2]
        assert selector.choose(context(1, 3)).tolist() == [0]


def test_greedy_never_looks_back():
    selector = GreedySelector(_setting(), rounds_per_choice=1, reward="round_goodput", decay=1, prior_rounds=1)
    selector.observe(outcome([0, 0], [0, 1], [0, 1], [1.0, 1.0]))
    for index in range(50):
        assert selector.choose(context(1, index)).tolist() == [1]
        selector.observe(outcome([0], [1], [1], [1.0]))


def test_exp3_probabilities_by_hand():
    selector = Exp3SpecSelector(_setting(), rounds_per_choice=1, reward="acceptance_length", per_request=True)
    assert selector.probabilities(np.array([0])).tolist() == [[0.5, 0.5]]
    drafter = int(selector.choose(context(1))[0])
    selector.observe(outcome([0], [drafter], [1], [1.0]))
    # loss (K - 1) / K over probability 1/2 = 1.5; round 2: eta = sqrt(ln 2 / (2 * 2))
    weight = exp(-1.5 * sqrt(log(2) / 4))
    assert selector.probabilities(np.array([0, 1]))[:, drafter] == pytest.approx([weight / (1 + weight), 0.5])


def test_a_plain_round_teaches_nothing():
    rules = {"rounds_per_choice": 1, "reward": "acceptance_length", "per_request": False}
    exp3 = Exp3SpecSelector(_setting(), **rules)
    exp3.observe(outcome([0], [-1], [0], [0.0]))
    assert exp3.probabilities(np.array([0])).tolist() == [[0.5, 0.5]]
    ucb = Ucb1Selector(_setting(), exploration=1, **rules)
    ucb.observe(outcome([0, 0], [-1, 1], [0, 0], [0.0, 1.0]))
    assert ucb.choose(context(1)).tolist() == [0]  # not tried yet


def test_a_choice_is_held_for_the_stated_rounds_and_newcomers_get_one_at_once():
    held = HeldChoice(5, 3)
    assert held.choose(context(2, 0), lambda rows: rows + 1).tolist() == [1, 2]
    assert held.choose(context(3, 1), lambda rows: rows + 7).tolist() == [1, 2, 9]
    assert held.choose(context(3, 3), lambda rows: rows).tolist() == [0, 1, 2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5).filter(lambda p: sum(p) > 0.01), st.integers(0, 99))
def test_a_draw_has_some_probability(weights, seed):
    probability = np.array([weights] * 20) / sum(weights)
    drawn = random_draw(probability, np.random.default_rng(seed))
    assert (probability[np.arange(20), drawn] > 0).all()


def test_draws_follow_their_probabilities():
    drawn = random_draw(np.tile([0.5, 0.0, 0.3, 0.2], (20_000, 1)), np.random.default_rng(0))
    assert np.bincount(drawn) / 20_000 == pytest.approx([0.5, 0.0, 0.3, 0.2], abs=0.015)  # 4 standard deviations
