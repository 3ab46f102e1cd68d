"""Selectors that choose by context: what they find out, and what they refuse."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.round_prices import DraftPrices, RoundPrices, row_slopes_s
from spinbench.control.costs.round_schedule import RoundSchedule
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.contextual import ContextualSelector
from spinbench.control.selector.joint import JointSelector
from spinbench.control.selector.look_ahead import LookAhead, Outlook
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from tests.control.contexts import context, outcome, with_copies

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"))
KEYS = {"optimism": 0.5, "payback_rounds": 8, "memory_rounds": 500, "learn_costs": False}
JOINT = functools.partial(JointSelector, branch=True)
SELECTORS = {"contextual": ContextualSelector, "joint": JOINT}
MOST = 4


def _setting(drafters=DRAFTERS, chooses: bool = True, placement: PlacementKind = "shared") -> SelectorSetting:
    return SelectorSetting(
        drafters, 4, 20, np.random.default_rng(0), MOST, chooses_draft_length=chooses, placement=Placement(placement)
    )


def _drive(selector, num_rounds: int, accepts, order=(0, 0, 0, 0), step_s: float = 0.05, row_s: float = 0.01):
    """Rounds of four requests; `accepts(request, drafter)` tokens of a long enough draft are accepted.

    Returns drafters and lengths of each. A verification takes 1 s and `row_s` a drafted row, a step of a model `step_s`.
    """
    history = []
    for index in range(num_rounds):
        seen = replace(context(4, index), lookup_match_order=np.array(order), remaining_tokens=np.full(4, 99))
        drafter = selector.choose(seen)
        lengths = np.where(drafter == NO_DRAFTER, 0, selector.lengths(seen, drafter))
        drafter = np.where(lengths == 0, NO_DRAFTER, drafter)
        could = [0 if d == NO_DRAFTER else accepts(r, d) for r, d in enumerate(drafter.tolist())]
        accepted = np.minimum(could, lengths)
        copied = np.array([accepts(r, 2) if order[r] else 0 for r in range(4)])
        steps = [lengths[drafter == d].max() if d >= 0 else 0 for d in drafter.tolist()]
        done = outcome(range(4), drafter, accepted, np.where(drafter == 2, 0.0, step_s) * steps)
        group = np.array([int((drafter == d).sum()) if d >= 0 else 0 for d in drafter.tolist()])
        done = done._replace(
            drafted=lengths,
            drafted_nodes=lengths,
            draft_steps=np.where(drafter == 2, 0, lengths),
            by_lookup=drafter == 2,
            verify_time_s=1 + row_s * lengths.sum(),
            group_size=lambda group=group: group,
        )
        selector.observe(with_copies(done, order, copied))
        history.append((drafter.tolist(), lengths.tolist()))
    return history


@pytest.mark.parametrize("name", SELECTORS)
def test_the_better_model_is_found_and_used_at_length(name):
    late = _drive(SELECTORS[name](_setting(), **KEYS), 80, lambda request, drafter: (0, 4, 0)[drafter])[60:]
    assert all(drafters == [1, 1, 1, 1] for drafters, _ in late)
    assert all(lengths == [4, 4, 4, 4] for _, lengths in late)


@pytest.mark.parametrize("name", SELECTORS)
def test_copies_where_they_match_are_learned_without_a_draft(name):
    # rows are so dear that nothing is drafted at first; then the copies are known to be right
    selector = SELECTORS[name](_setting(), **KEYS)
    order = (3, 3, 0, 0)
    history = _drive(selector, 60, lambda request, drafter: (0, 0, 4)[drafter], order)
    drafters, lengths = history[-1]
    assert drafters == [2, 2, NO_DRAFTER, NO_DRAFTER]
    assert lengths == [4, 4, 0, 0]


@pytest.mark.parametrize("name", SELECTORS)
def test_speculation_goes_off_where_rows_are_dear(name):
    history = _drive(SELECTORS[name](_setting(), **KEYS), 150, lambda request, drafter: 1, row_s=2.0)
    assert [drafters for drafters, _ in history[-20:]] == [[NO_DRAFTER] * 4] * 20


def test_joint_asks_models_together_where_they_do_not_wait_for_each_other(monkeypatch):
    # each model is right for one request alone, and brings it 2 tokens; its job costs as much as 2.1 or 1.9 tokens. By
    # turns only the cheaper one pays; side by side the other one adds 0.2
    survival = np.zeros((2, 2, MOST))
    survival[0, 0, :2] = survival[1, 1, :2] = 1.0
    nothing, verify_s = np.zeros(2), np.ones(2 * MOST + 1)
    prices = RoundPrices(
        verify_s, row_slopes_s(verify_s), 0.0, nothing, DraftPrices(np.array([2.1, 1.9]), nothing, nothing, nothing),
        np.zeros((2, 2)),
    )  # fmt: skip

    def choice(placement: PlacementKind) -> list[int]:
        selector = JOINT(_setting(DRAFTERS[:2], placement=placement), **KEYS)
        priced = replace(prices, schedule=RoundSchedule(Placement(placement)))
        outlook = Outlook(np.array([[0, 1], [0, 1]]), survival, priced, 1.0, np.ones(2))
        monkeypatch.setattr(LookAhead, "outlook", lambda self, context: outlook)
        return selector.choose(context(2)).tolist()

    placements: tuple[PlacementKind, ...] = ("shared", "drafters_together", "own_devices")
    chosen = {placement: choice(placement) for placement in placements}
    assert chosen == {"shared": [-1, 1], "drafters_together": [-1, 1], "own_devices": [0, 1]}


def _chosen(monkeypatch, selector, outlook: Outlook) -> tuple[list[int], list[int]]:
    """Drafters and lengths before such an outlook."""
    monkeypatch.setattr(LookAhead, "outlook", lambda self, context: outlook)
    seen = context(len(outlook.drafter))
    drafters = selector.choose(seen)
    return drafters.tolist(), np.where(drafters == NO_DRAFTER, 0, selector.lengths(seen, drafters)).tolist()


def test_a_drafter_is_free_while_a_longer_one_drafts_on_a_device_of_its_own(monkeypatch):
    # a is right for two requests and brings them 4 tokens each for a job that costs 5; b brings the third one 0.9 tokens,
    # and its job costs 4: too much by turns, and nothing beside a's
    survival = np.zeros((3, 2, MOST))
    survival[:2, 0] = 1.0
    survival[2, 1] = 0.4, 0.3, 0.1, 0.1
    nothing, verify_s, job_s = np.zeros(2), np.ones(3 * MOST + 1), np.array([5.0, 4.0])
    prices = RoundPrices(
        verify_s, row_slopes_s(verify_s), 0.0, np.zeros(3), DraftPrices(job_s, nothing, nothing, nothing),
        np.zeros((3, 2)),
    )  # fmt: skip
    chosen = {}
    placements: tuple[PlacementKind, ...] = ("drafters_together", "own_devices")
    for placement in placements:
        priced = replace(prices, schedule=RoundSchedule(Placement(placement)))
        outlook = Outlook(np.array([[0, 1]] * 3), survival, priced, 1.0, np.ones(3))
        chosen[placement] = _chosen(monkeypatch, JOINT(_setting(DRAFTERS[:2]), **KEYS), outlook)
    assert chosen["drafters_together"] == ([0, 0, NO_DRAFTER], [MOST, MOST, 0])
    assert chosen["own_devices"] == ([0, 0, 1], [MOST] * 3)


@pytest.mark.parametrize("name", SELECTORS)
def test_drafting_that_is_hidden_costs_nothing_and_verification_that_is_neither(name, monkeypatch):
    # one request: a drafted token is right with 0.9, 0.8, 0.7, 0.6. Alone a step costs 0.5 tokens and a row 0.2: two pay.
    # Beside another micro-batch, whose verification takes 2 s of which drafting hides, the 4 rows cost 0.8: all pay
    survival = np.array([[[0.9, 0.75, 0.6, 0.5]]])
    verify_s = 2 + 0.2 * np.arange(MOST + 1)
    prices = RoundPrices(
        verify_s, row_slopes_s(verify_s), 0.0, np.zeros(1),
        DraftPrices(np.zeros(1), np.zeros(1), np.array([0.5]), np.zeros(1)), np.zeros((1, 1)),
    )  # fmt: skip
    lengths = {}
    for num_in_flight, overlap in ((0, NOT_SLOWED), (1, NOT_SLOWED), (1, Overlap(1.0, 3.0, 1.0, 3.0))):
        priced = replace(prices, schedule=RoundSchedule(Placement("own_devices"), False, overlap, num_in_flight))
        outlook = Outlook(np.array([[0]]), survival, priced, 1.0, np.ones(1))
        selector = SELECTORS[name](_setting(DRAFTERS[:1]), **KEYS)
        lengths[num_in_flight, overlap == NOT_SLOWED] = _chosen(monkeypatch, selector, outlook)[1]
    # slowed threefold, a step beside it costs the target 1 s: in 1.5 s it gets done what it does alone in 0.5 s
    assert lengths == {(0, True): [2], (1, True): [4], (1, False): [0]}


@pytest.mark.parametrize("name", SELECTORS)
def test_what_is_drafted_ahead_pays_as_often_as_its_guess_is_right(name, monkeypatch):
    # a step costs 0.7 tokens, a right one brings 0.8 and 0.6: a draft of one token pays, of two by 0, and of more not.
    # Where 9 of 10 guesses behind 4 tokens are right, a tenth of the steps is paid
    survival = np.array([[[0.8, 0.5, 0.45, 0.4]]])
    verify_s = np.full(MOST + 1, 10.0)
    prices = RoundPrices(
        verify_s, row_slopes_s(verify_s), 0.0, np.zeros(1),
        DraftPrices(np.zeros(1), np.zeros(1), np.array([0.7]), np.zeros(1)), np.zeros((1, 1)),
    )  # fmt: skip

    def length(guess: float, placement: PlacementKind) -> int:
        priced = replace(prices, schedule=RoundSchedule(Placement(placement), drafts_ahead=True))
        outlook = Outlook(np.array([[0]]), survival, priced, 1.0, np.ones(1), np.full((1, 1, MOST), guess))
        return _chosen(monkeypatch, SELECTORS[name](_setting(DRAFTERS[:1]), **KEYS), outlook)[1][0]

    assert [length(guess, "own_devices") for guess in (0.0, 0.9)] == [1, 4]
    # on one device what is drafted ahead is always paid: two steps at least. With no chance at all nothing is
    assert [length(guess, "shared") for guess in (0.0, 0.01, 0.9)] == [1, 0, 0]


def test_a_second_is_worth_what_all_requests_of_the_round_get_in_it():
    # before the first round it is plain decoding's: 4 tokens in a verification, though only one request is chosen for
    outlook = LookAhead(_setting(), **KEYS).outlook(replace(context(1), num_ready=3, ready_tokens=6))
    assert outlook.tokens_per_s == pytest.approx(4 / outlook.prices.verify_s[0])


def test_a_guess_is_as_likely_as_one_token_more(monkeypatch):
    ahead = LookAhead(replace(_setting(), drafts_ahead=True), **KEYS)
    survival = np.tile([0.8, 0.6, 0.4, 0.2], (2, 3, 1))
    monkeypatch.setattr(ahead.survival, "survival", lambda rows, optimism: survival.copy())
    guesses = ahead.outlook(replace(context(2), remaining_tokens=np.array([99, 6]))).guesses
    assert guesses is not None
    # behind the longest draft as likely again as its last token was: 0.2 x 0.2 / 0.4
    assert guesses[0, :2] == pytest.approx(np.array([[0.6, 0.4, 0.2, 0.1]] * 2))
    # of 6 tokens a draft of 4 and the bonus token leave one, which is never drafted
    assert guesses[1, :2] == pytest.approx(np.array([[0.6, 0.4, 0.2, 0.0]] * 2))
    assert (guesses[:, 2] == 0).all()  # copies are made in no time


NGRAMS = (DrafterInfo("n-ngram", "ngram"), DrafterInfo("prompt_lookup", "prompt_lookup"))


@pytest.mark.parametrize(
    ("agreed", "changes", "branch", "allowed", "both"),
    [
        (0, {}, True, True, True),
        (1, {}, True, True, False),
        (255, {}, True, True, False),
        (0, {}, False, True, False),
        (0, {}, True, False, False),
        (0, {"lookup_match_order": np.zeros(4, np.int64)}, True, True, False),
    ],
    ids=["they part", "they agree", "unknown", "not wanted", "not possible", "nothing to copy"],
)
def test_joint_has_both_drafted_only_where_copies_and_the_table_part(agreed, changes, branch, allowed, both):
    setting = replace(_setting(NGRAMS), allows_branches=allowed)
    selector = JointSelector(setting, **KEYS, branch=branch)
    seen = replace(
        context(4, num_drafters=2), lookup_match_order=np.full(4, 2), ngram_agreed=np.full(4, agreed),
        ngram_confidence=np.full(4, 0.6), remaining_tokens=np.full(4, 99),
    )  # fmt: skip
    seen = replace(seen, **changes)
    first = selector.choose(seen)
    second, lengths = selector.beside(seen)
    assert selector.branches == (branch and allowed)
    assert ((second >= 0) == (lengths > 0)).all()
    assert (lengths > 0).tolist() == [both] * 4
    assert (first[second >= 0] == 1 - second[second >= 0]).all()
    assert (selector.lengths(seen, first)[second >= 0] > 0).all()


def test_joint_does_not_branch_for_copies_of_shorter_matches():
    drafters = (NGRAMS[0], replace(NGRAMS[1], max_match_tokens=2))
    assert not JointSelector(replace(_setting(drafters), allows_branches=True), **KEYS, branch=True).branches


def test_joint_lets_a_model_run_only_for_many():
    # a step takes 0.6 s: for one easy request it does not pay, for four it does
    def few(request, drafter):
        return 2 if request == 0 and drafter == 0 else 0

    def many(request, drafter):
        return 2 if drafter == 0 else 0

    alone = _drive(JOINT(_setting(DRAFTERS[:1]), **KEYS), 120, few, step_s=0.6)
    together = _drive(JOINT(_setting(DRAFTERS[:1]), **KEYS), 120, many, step_s=0.6)
    assert all(drafters == [NO_DRAFTER] * 4 for drafters, _ in alone[-20:])
    assert all(drafters == [0] * 4 for drafters, _ in together[-20:])


@pytest.mark.parametrize("name", SELECTORS)
def test_a_k_of_zero_is_plain_decoding(name):
    selector = SELECTORS[name](replace(_setting(), max_num_speculative_tokens=0), **KEYS)
    history = _drive(selector, 3, lambda request, drafter: 4, order=(3, 0, 0, 0))
    assert history == [([NO_DRAFTER] * 4, [0] * 4)] * 3


@pytest.mark.parametrize("name", SELECTORS)
def test_no_more_than_can_be_emitted(name):
    selector = SELECTORS[name](_setting(), **KEYS)
    _drive(selector, 30, lambda request, drafter: 4)
    last = replace(context(4), remaining_tokens=np.array([1, 2, 3, 9]), lookup_match_order=np.full(4, 3))
    drafter = selector.choose(last)
    lengths = np.where(drafter == NO_DRAFTER, 0, selector.lengths(last, drafter))
    assert (lengths <= [0, 1, 2, 4]).all()


@pytest.mark.parametrize("name", SELECTORS)
def test_no_chance_in_it(name):
    runs = [_drive(SELECTORS[name](_setting(), **KEYS), 40, lambda r, d: (r + d) % 4, (0, 1, 2, 3)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_contextual_under_a_given_length_chooses_drafters_alone():
    selector = ContextualSelector(_setting(chooses=False), **KEYS)
    history = _drive(selector, 80, lambda request, drafter: (0, 4, 0)[drafter])
    assert all(drafters == [1, 1, 1, 1] for drafters, _ in history[60:])


def test_what_is_refused():
    with pytest.raises(UserError, match="selector=joint chooses drafter and K together; set drafting=by_selector"):
        JOINT(_setting(chooses=False), **KEYS)
    for name, selector in SELECTORS.items():
        with pytest.raises(UserError, match=f"selector={name} needs at least one drafter"):
            selector(_setting(()), **KEYS)
