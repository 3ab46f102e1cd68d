"""Every selector: its row in the table, and what it must learn."""

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.epsilon_greedy import EpsilonGreedySelector
from spinbench.control.selector.exp3spec import Exp3SpecSelector
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.greedy import GreedySelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.control.selector.thompson import ThompsonSelector
from spinbench.control.selector.ucb1 import Ucb1Selector
from spinbench.control.selector.ucbspec import UcbSpecSelector
from spinbench.errors import UserError
from tests.control.contexts import context, outcome

DRAFTERS = tuple(DrafterInfo(name, "model") for name in "abc")
SPIN = {
    "rounds_per_slot": 2,
    "slots_per_epoch": 4,
    "exploring_slots": 1,
    "reward": "round_goodput",
    "decay": 1.0,
    "prior_rounds": 2,
    "per_request": True,
    "capacity": None,
}
GREEDY = {"rounds_per_choice": 1, "reward": "round_goodput", "decay": 1.0, "prior_rounds": 2}
EPSILON_GREEDY = {"epsilon": 0.2, **GREEDY}
BANDIT = {"rounds_per_choice": 1, "reward": "round_goodput", "per_request": True}
THOMPSON = {"rounds_per_choice": 1, "reward": "round_goodput", "decay": 1.0, "prior_tokens": 2, "time_shape": 20}

SELECTORS: dict[str, Callable[[SelectorSetting], Selector]] = {
    "plain": PlainSelector,
    "fixed": lambda setting: FixedSelector(setting, drafter="b"),
    "random": lambda setting: RandomSelector(setting, rounds_per_choice=2),
    "round_robin": lambda setting: RoundRobinSelector(setting, rounds_per_choice=2),
    "epsilon_greedy": lambda setting: EpsilonGreedySelector(setting, **EPSILON_GREEDY),
    "spin": lambda setting: SpinSelector(setting, **SPIN),
    "greedy": lambda setting: GreedySelector(setting, **GREEDY),
    "ucb1": lambda setting: Ucb1Selector(setting, exploration=0.3, **BANDIT),
    "ucbspec": lambda setting: UcbSpecSelector(setting, delta=0.1, exploration=0.2, **BANDIT),
    "exp3spec": lambda setting: Exp3SpecSelector(setting, **BANDIT),
    "thompson": lambda setting: ThompsonSelector(setting, **THOMPSON),
}


def _setting(seed: int = 0, drafters=DRAFTERS, max_num_seqs: int = 4) -> SelectorSetting:
    return SelectorSetting(drafters, max_num_seqs, 20, np.random.default_rng(seed), 4)


def _drive(selector: Selector, num_rounds: int, accepts: dict[str, tuple[int, int, int]]):
    """Rounds in which request r gets `accepts[r][drafter]` tokens accepted; returns the drafter chosen in each."""
    history = []
    for index in range(num_rounds):
        chosen = selector.choose(context(len(accepts), index)).tolist()
        history.append(dict(zip(accepts, chosen, strict=True)))
        accepted = [0 if d == NO_DRAFTER else accepts[r][d] for r, d in zip(accepts, chosen, strict=True)]
        draft_time_s = [float(d != NO_DRAFTER) for d in chosen]
        selector.observe(outcome(range(len(accepts)), chosen, accepted, draft_time_s))
    return history


EASY = {"x": (4, 0, 1), "y": (0, 4, 1), "z": (1, 0, 4), "w": (4, 0, 1)}


@pytest.mark.parametrize("name", SELECTORS)
def test_choices_are_drafters_and_repeat_for_a_seed(name):
    first = _drive(SELECTORS[name](_setting(3)), 40, EASY)
    assert first == _drive(SELECTORS[name](_setting(3)), 40, EASY)
    chosen = {drafter for round_ in first for drafter in round_.values()}
    assert chosen <= ({NO_DRAFTER} if name == "plain" else {0, 1, 2})


def test_random_keeps_its_draw_for_the_stated_rounds():
    history = _drive(SELECTORS["random"](_setting()), 40, {"x": (1, 1, 1)})
    assert all(history[index] == history[index + 1] for index in range(0, 40, 2))
    assert {round_["x"] for round_ in history} == {0, 1, 2}


def test_round_robin_takes_turns_from_different_starts():
    history = _drive(SELECTORS["round_robin"](_setting()), 6, {"x": (1, 1, 1), "y": (1, 1, 1)})
    assert [round_["x"] for round_ in history] == [0, 0, 1, 1, 2, 2]
    assert [round_["y"] for round_ in history] == [1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("name", ["epsilon_greedy", "spin", "ucb1", "ucbspec", "exp3spec", "thompson"])
def test_learners_find_each_requests_own_best_drafter(name):
    late = _drive(SELECTORS[name](_setting()), 200, EASY)[100:]
    best = {request_id: int(np.argmax(accepted)) for request_id, accepted in EASY.items()}
    share = np.mean([round_[request_id] == best[request_id] for round_ in late for request_id in EASY])
    assert share > 0.7  # epsilon 0.2 and one exploring slot of four both leave about 0.8


def test_spin_explores_only_in_the_first_slots_of_an_epoch():
    history = _drive(SpinSelector(_setting(), **{**SPIN, "slots_per_epoch": 5}), 400, {"x": (4, 0, 0)})
    exploiting = [round_["x"] for index, round_ in enumerate(history) if index >= 40 and (index // 2) % 5 >= 1]
    exploring = [round_["x"] for index, round_ in enumerate(history) if (index // 2) % 5 == 0]
    assert set(exploiting) == {0}
    assert set(exploring) == {0, 1, 2}


def test_spin_keeps_to_capacities_also_for_newcomers():
    selector = SpinSelector(_setting(), **{**SPIN, "capacity": [1, 2, 1]})
    for index in range(60):
        present = range(index // 7, index // 7 + 4)  # one leaves and one comes now and then
        chosen = selector.choose(context(4, index, rows=present)).tolist()
        assert all(chosen.count(drafter) <= capacity for drafter, capacity in enumerate([1, 2, 1]))


def test_spin_shares_slots_and_places_between_micro_batches():
    keys = {**SPIN, "capacity": [2, 1, 1], "rounds_per_slot": 2, "slots_per_epoch": 100, "exploring_slots": 100}
    selector = SpinSelector(_setting(), **keys)
    halves = [0, 1], [2, 3]
    for slot in range(4):
        chosen = []
        for _ in range(2):  # both halves have two rounds in a slot, with one assignment
            now = []
            for rows in halves:
                drafters = selector.choose(context(2, rows=rows))
                selector.observe(outcome(rows, drafters, [1, 1], [1.0, 1.0]))
                now += drafters.tolist()
            chosen.append(now)
        assert chosen[0] == chosen[1], slot
        # all places: 2 + 1 + 1 of 4 requests
        assert sorted(chosen[0]) == [0, 0, 1, 2]


def test_spin_matches_the_whole_batch_ahead_of_a_slot():
    keys = {**SPIN, "capacity": [2, 1, 1], "rounds_per_slot": 1, "slots_per_epoch": 21, "exploring_slots": 20}
    selector = SpinSelector(_setting(), **keys)
    # to the first half drafter 0 makes a small difference, to the second, whose turn comes later, a large one
    accepted = {0: [2, 2, 4, 4], 1: [1, 1, 0, 0], 2: [1, 1, 0, 0]}
    announced = np.full(4, -1)
    for _ in range(20):
        for rows in ([0, 1], [2, 3]):
            drafters = selector.choose(context(2, rows=rows)).tolist()
            announced[rows] = selector.next_drafters(context(2, rows=rows))
            shown = [accepted[drafter][row] for drafter, row in zip(drafters, rows, strict=True)]
            selector.observe(outcome(rows, drafters, shown, [1.0, 1.0]))
    assert sorted(announced[:2]) == [1, 2]
    assert announced[2:].tolist() == [0, 0]


def test_spin_gives_a_finished_requests_place_to_a_newcomer_of_another_micro_batch():
    keys = {**SPIN, "capacity": [2, 1, 1], "rounds_per_slot": 50, "exploring_slots": 1}
    selector = SpinSelector(_setting(), **keys)
    first = selector.choose(context(2, rows=[0, 1]))
    second = selector.choose(context(2, rows=[2, 3]))
    selector.observe(outcome([0, 1], first, [1, 1], [1.0, 1.0], finished=True))
    newcomers = selector.choose(context(2, rows=[4, 5]))
    assert sorted([*second, *newcomers]) == [0, 0, 1, 2]


def test_draft_goodput_ignores_what_verification_costs():
    # drafter a: 1 token in 0.01 s; drafter b: 3 tokens in 0.2 s; the target takes 1 s either way
    rewards = {}
    for reward in ("draft_goodput", "round_goodput"):
        selector = EpsilonGreedySelector(
            _setting(drafters=DRAFTERS[:2]), **{**EPSILON_GREEDY, "epsilon": 0.0, "reward": reward}
        )
        for index in range(6):
            (drafter,) = selector.choose(context(1, index)).tolist()
            selector.observe(outcome([0], [drafter], [(1, 3)[drafter]], [(0.01, 0.2)[drafter]]))
        rewards[reward] = drafter
    assert rewards == {"draft_goodput": 0, "round_goodput": 1}  # 100 against 15; 1.98 against 3.33 tokens/s


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedSelector(_setting(), drafter="nobody"), "selector.drafter is 'nobody'; the drafters of this run are a, b, c"),
        (lambda: RandomSelector(_setting(drafters=()), rounds_per_choice=1), "selector=random needs at least one drafter"),
        (lambda: SpinSelector(_setting(), **{**SPIN, "capacity": 1}), "gives 3 places in all; the batch needs scheduler.max_num_seqs = 4"),
        (lambda: SpinSelector(_setting(), **{**SPIN, "capacity": [4, 4]}), "selector.capacity has 2 entries; there are 3 drafters"),
        (lambda: SpinSelector(_setting(), **{**SPIN, "exploring_slots": 9}), "selector.exploring_slots is 9; it must be at most"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(make, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        make()


@pytest.mark.parametrize(
    "wrong", [{"rounds_per_slot": 0}, {"decay": 0.0}, {"reward": "luck"}, {"capacity": 0}, {"no_such_key": 1}]
)
def test_values_out_of_range_and_unknown_keys(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SpinSelector(_setting(), **{**SPIN, **wrong})
