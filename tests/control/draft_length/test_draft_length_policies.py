"""Draft lengths that learn: goodput, adaptive, budget."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.acceptance_rate import AcceptanceRate
from spinbench.control.costs.round_prices import DraftPrices, RoundPrices
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.draft_length.adaptive import AdaptiveDraftLength
from spinbench.control.draft_length.budget import BudgetDraftLength
from spinbench.control.draft_length.by_selector import BySelectorDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.goodput import GoodputDraftLength
from spinbench.control.draft_length.probing import Probes
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.placement import Placement
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from tests.control.contexts import context, outcome
from tests.control.made_costs import cost_model

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"))
COMMON = {"max_num_speculative_tokens": 6, "prior_rate": 0.6, "decay": 0.9}
NO_PROBES = {**COMMON, "probe_share": 0.0}


def _setting(costs=None) -> SelectorSetting:
    return SelectorSetting(DRAFTERS, 8, 20, np.random.default_rng(0), cost_model=costs)


def _seen(count: int):
    return replace(context(count), remaining_tokens=np.full(count, 50))


def test_goodput_is_that_of_the_whole_round(monkeypatch):
    # one request drafts: a step takes 1 s, a verification 10 s whatever is in it, and of each token 0.6 are accepted
    policy, nothing = GoodputDraftLength(_setting(cost_model(DRAFTERS)), **NO_PROBES), np.zeros(3)
    draft = DraftPrices(nothing, nothing, np.ones(3), nothing)
    prices = RoundPrices(np.full(13, 10.0), np.zeros(1), 0.0, np.zeros(1), draft, np.zeros((1, 3)))
    monkeypatch.setattr(policy._times, "prices", lambda context, missing: prices)
    # 1 + 0.6 + .. tokens in 10 + K s: 1.96 / 12 = 0.163 with two, 2.176 / 13 = 0.167, 2.306 / 14 = 0.165 with four
    assert policy.lengths(_seen(1), np.array([0])).tolist() == [3]
    # beside 7 requests that have drafts of two tokens already, 7 x 1.96 tokens: 14.72 / 10 is more than 15.32 / 11
    assert policy.lengths(replace(_seen(1), num_ready=7, ready_tokens=14), np.array([0])).tolist() == [0]


OWN = Placement("own_devices")


@pytest.mark.parametrize(
    ("schedule", "source", "seconds"),
    [
        # two requests with the first model: 4 + 2 + 2 + 2 s and 2 + 2 more of drafting, and 12 or 14 s of verification,
        # 2 x 1 s for having drafts and 1 + 3 for rows of each
        (BY_TURNS, 0, [10, 10 + 18, 14 + 24]),
        (RoundSchedule(OWN, num_in_flight=1), 0, [10, 18, 24]),
        # a quarter, or an eighth, of guesses is right: 15/16 of 6 s and twice 3/4 of 2 s, 63/64 of 8 and twice 7/8 of 3 s;
        # a step more is drafted ahead: 14 or 18 s
        (RoundSchedule(OWN, drafts_ahead=True), 0, [10, 8.625 + 18, 13.125 + 24]),
        (RoundSchedule(drafts_ahead=True), 0, [10, 8.625 + 18 + 14, 13.125 + 24 + 18]),
        # copies take 5 s, and are not made ahead
        (RoundSchedule(drafts_ahead=True), 2, [10, 5 + 18, 5 + 24]),
    ],
)  # fmt: skip
def test_seconds_of_a_round_by_k(schedule, source, seconds):
    draft = DraftPrices(
        np.array([4.0, 0, 5]), np.array([1.0, 0, 0]), np.array([2.0, 0, 0]), np.array([1.0, 0, 0])
    )  # fmt: skip
    prices = RoundPrices(
        10.0 + np.arange(9), np.ones(1), 1.0, np.array([1.0, 3.0]), draft, np.zeros((2, 3)), schedule
    )  # fmt: skip
    lengths = np.array([[0, 0], [1, 1], [2, 2]])
    found = prices.round_s(lengths, np.full(2, source), np.full(2, 0.5), num_models=2)
    assert found == pytest.approx(seconds)


def test_seconds_of_a_round_whose_drafts_are_not_alike():
    draft = DraftPrices(
        np.array([4.0, 0, 5]), np.array([1.0, 0, 0]), np.array([2.0, 0, 0]), np.array([1.0, 0, 0])
    )  # fmt: skip
    prices = RoundPrices(10.0 + np.arange(13), np.ones(1), 1.0, np.array([1.0, 3.0, 0.0]), draft, np.zeros((3, 3)))
    # 3 rows and 2 x 1 s for having drafts, 2 x 1 and 3 s for rows; the job of the first 4 + 2 x 2 + 1 + 2 s, copies 5 s
    lengths, source = np.array([[2, 1, 0], [0, 1, 0]]), np.array([0, 2, -1])
    found = prices.round_s(lengths, source, np.full(3, 0.5), num_models=2)
    assert found.tolist() == [13 + 2 + 5 + 11 + 5, 11 + 1 + 3 + 5]


def _teach(policy, drafter, accepted, rounds: int = 30, verify_time_s: float = 1.0) -> None:
    for _ in range(rounds):
        policy.observe(outcome(range(len(drafter)), drafter, accepted, [0.1] * len(drafter), verify_time_s))


def test_acceptance_rate_is_conditional_and_goes_back_to_what_is_believed():
    rate = AcceptanceRate(2, 4, prior_rate=0.5, decay=0.5)
    # 3 of 4 accepted: 3 right, 1 wrong; with the prior's 4 tokens at 0.5: (3 + 2) / (4 + 4)
    rate.observe(outcome([1], [0], [3], [1.0]))
    assert rate.of_drafters().tolist() == [5 / 8, 0.5]
    # the request itself: (3 + 4 x 5/8) / (4 + 4)
    assert rate.of_requests(np.array([1, 2, 3]), np.array([0, 0, NO_DRAFTER])).tolist() == [5.5 / 8, 5 / 8, 0.0]
    for _ in range(30):
        rate.observe(outcome([0], [NO_DRAFTER], [0], [0.0]))
    assert rate.of_drafters() == pytest.approx([0.5, 0.5])


def test_adaptive_follows_each_request_down_to_zero_and_tries_again():
    policy = AdaptiveDraftLength(_setting(), min_survival=0.3, **NO_PROBES)
    drafters = np.array([0, 0, NO_DRAFTER])
    # before any evidence: 0.6^2 = 0.36 >= 0.3 > 0.6^3
    assert policy.lengths(_seen(3), drafters).tolist() == [2, 2, 0]
    _teach(policy, [0, 0, NO_DRAFTER], [4, 0, 0])
    assert policy.lengths(_seen(3), drafters).tolist() == [6, 0, 0]
    for _ in range(60):
        policy.observe(outcome(range(3), [NO_DRAFTER] * 3, [0, 0, 0], [0.0] * 3))
    assert policy.lengths(_seen(3), drafters).tolist() == [2, 2, 0]


def test_budget_gives_slots_to_the_likeliest_tokens():
    policy = BudgetDraftLength(_setting(), max_verified_tokens=8, min_survival=0.0, **NO_PROBES)
    _teach(policy, [0, 1], [4, 0])
    lengths = policy.lengths(_seen(2), np.array([0, 1]))
    assert lengths.sum() == 6  # 8 rows, two of which are the requests' own
    assert lengths[0] > lengths[1]


@pytest.mark.parametrize(("count", "slots"), [(1, 6), (3, 5), (7, 1), (8, 0), (9, 0)])
def test_budget_is_what_the_batch_leaves(count, slots):
    policy = BudgetDraftLength(_setting(), max_verified_tokens=8, min_survival=0.0, **NO_PROBES)
    assert policy.lengths(_seen(count), np.zeros(count, np.int64)).sum() == slots


def test_budget_wastes_no_slot_on_hopeless_or_useless_tokens():
    policy = BudgetDraftLength(_setting(), max_verified_tokens=20, min_survival=0.3, **NO_PROBES)
    seen = replace(_seen(2), remaining_tokens=np.array([2, 50]))
    # 0.6 and 0.36 are worth a slot, 0.216 is not; the first request can use one token
    assert policy.lengths(seen, np.array([0, 0])).tolist() == [1, 2]


CHEAP = cost_model(DRAFTERS, drafter_scale=0.05, straight=True)


@pytest.mark.parametrize("costs", [None, CHEAP], ids=["learned", "known"])
def test_goodput_is_long_for_good_drafters_and_zero_for_bad_ones(costs):
    policy = GoodputDraftLength(_setting(costs), **{**NO_PROBES, "decay": 0.99})
    _teach(policy, [0, 1], [4, 0], rounds=150)
    good, bad = np.array([0, 0]), np.array([1, 1])
    assert (policy.lengths(_seen(2), good) > 2).all()
    assert policy.lengths(_seen(2), bad).tolist() == [0, 0]
    assert len(set(policy.lengths(_seen(2), np.array([0, 1])).tolist())) == 1  # one K for the batch


def test_goodput_is_longer_where_drafters_draft_at_once():
    lengths = []
    for drafter_scale in (0.2, 0.5, 1.0):
        costs = cost_model(DRAFTERS, drafter_scale=drafter_scale)
        for placement in ("shared", "own_devices"):
            policy = GoodputDraftLength(replace(_setting(costs), placement=Placement(placement)), **NO_PROBES)
            lengths.append(int(policy.lengths(_seen(2), np.array([0, 1]))[0]))
    by_turns, at_once = np.array(lengths).reshape(-1, 2).T
    assert (at_once >= by_turns).all()
    assert (at_once > by_turns).any()


def test_goodput_counts_only_those_who_can_draft():
    policy = GoodputDraftLength(_setting(cost_model(DRAFTERS)), **NO_PROBES)
    nothing_matches = policy.lengths(_seen(2), np.array([2, NO_DRAFTER]))
    assert nothing_matches.tolist() == [0, 0]
    seen = replace(_seen(2), lookup_match_order=np.array([3, 0]))
    lengths = policy.lengths(seen, np.array([2, NO_DRAFTER]))
    assert lengths[0] > 0
    assert lengths[1] == 0


def test_probes_come_in_rows_as_they_are_saved_for():
    probes = Probes(0.125)
    # 8 requests: a probe is two rounds, and the first one is there
    assert [probes.take(0.5, 0.0, 8) for _ in range(4)] == [True, True, False, False]
    # its price of 1 s is an eighth of eight seconds
    for _ in range(7):
        probes.passed(1.0)
        assert not probes.take(0.5, 0.0, 8)
    probes.passed(1.0)
    assert [probes.take(0.5, 0.0, 8) for _ in range(3)] == [True, True, False]
    # no more than one is ever saved for
    probes.passed(1000.0)
    assert [probes.take(0.5, 0.0, 8) for _ in range(3)] == [True, True, False]
    assert not Probes(0.0).take(0.5, 0.0, 8)


def test_a_probe_goes_on_while_the_batch_shrinks():
    probes = Probes(0.125)
    # 10 + 4 + 4 of 16 tokens, and 3 x 0.5 s of the 2 x 0.5 s that were saved: the rest is owed
    assert [probes.take(0.5, 0.0, count) for count in (10, 4, 4, 10)] == [True, True, True, False]
    probes.passed(11.0)
    assert not probes.take(0.5, 0.0, 10)
    probes.passed(1.0)
    assert probes.take(0.5, 0.0, 10)


def test_goodput_probes_what_it_does_not_believe_in():
    setting, keys = _setting(cost_model(DRAFTERS, straight=True)), {**COMMON, "prior_rate": 0.05, "decay": 0.98}
    blind, asking = (GoodputDraftLength(setting, **keys, probe_share=share) for share in (0.0, 0.01))
    drafters = np.zeros(4, np.int64)
    assert blind.lengths(_seen(4), drafters).tolist() == [0] * 4
    assert asking.lengths(_seen(4), drafters).tolist() == [1] * 4
    for policy in (blind, asking):
        drafted = np.ones(4, int) if policy is asking else np.zeros(4, int)
        done = outcome(range(4), [0 if policy is asking else NO_DRAFTER] * 4, drafted.tolist(), [0.1] * 4)
        for _ in range(4):
            policy.observe(done._replace(drafted=drafted))
    assert blind.lengths(_seen(4), drafters).tolist() == [0] * 4
    assert (asking.lengths(_seen(4), drafters) > 1).all()


def _given_up(make, **keys):
    """A policy that thinks well of drafter a, and nothing of b; one that may probe."""
    policy = make(
        _setting(cost_model(DRAFTERS, straight=True)), max_num_speculative_tokens=6, prior_rate=0.6, decay=1.0,
        probe_share=0.01, **keys,
    )  # fmt: skip
    _teach(policy, [0, 1], [4, 0], rounds=20)
    return policy


GIVEN_UP = [
    (AdaptiveDraftLength, {"min_survival": 0.3}),
    (BudgetDraftLength, {"min_survival": 0.3, "max_verified_tokens": 40}),
]


@pytest.mark.parametrize(("make", "keys"), GIVEN_UP)
def test_a_drafter_that_was_given_up_is_tried_beside_one_that_is_not(make, keys):
    policy, drafters = _given_up(make, **keys), np.array([0, 1, 1, NO_DRAFTER])
    # of all drafters with which nobody drafts, requests that can use a token
    lengths = policy.lengths(replace(_seen(4), remaining_tokens=np.array([50, 50, 1, 50])), drafters)
    assert lengths[0] > 1
    assert lengths[1:].tolist() == [1, 0, 0]
    # 16 tokens, then only what is saved for
    tried = [policy.lengths(_seen(4), drafters)[1:].tolist() for _ in range(10)]
    assert tried == [[1, 1, 0]] * 8 + [[0, 0, 0]] * 2


@pytest.mark.parametrize(("make", "keys"), GIVEN_UP)
def test_a_request_without_luck_is_not_tried_while_its_drafter_drafts_for_others(make, keys):
    policy = _given_up(make, **keys)
    for _ in range(20):
        policy.observe(outcome(range(2), [0, 0], [4, 0], [0.1, 0.1]))
    lengths = policy.lengths(_seen(2), np.array([0, 0]))
    assert lengths[0] > 1
    assert lengths[1] == 0


def test_probes_keep_to_the_budget():
    policy = _given_up(BudgetDraftLength, min_survival=0.3, max_verified_tokens=4)
    assert policy.lengths(_seen(3), np.array([1, 1, 1])).tolist() == [1, 0, 0]
    assert policy.lengths(_seen(4), np.array([1, 1, 1, 1])).tolist() == [0, 0, 0, 0]


def test_a_probe_that_needs_catching_up_is_saved_for_longer():
    probes = Probes(0.125)
    assert [probes.take(0.5, 3.0, 8), probes.take(0.5, 0.0, 8)] == [True, True]
    probes.passed(31.0)
    assert not probes.take(0.5, 3.0, 8)
    probes.passed(1.0)
    assert probes.take(0.5, 3.0, 8)


def test_a_selector_that_chooses_no_length_is_refused():
    by_selector = BySelectorDraftLength(max_num_speculative_tokens=4)
    with pytest.raises(UserError, match="drafting=by_selector leaves K to the selector, and this one chooses only"):
        by_selector.of(PlainSelector(_setting()))
    policy = FixedDraftLength(3)
    assert by_selector.of(policy) is policy
