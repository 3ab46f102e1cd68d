"""Prices add up to what the cost model says, and learned ones to what jobs took."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from spinbench.control.costs.learned_times import LearnedTimes
from spinbench.control.costs.overlap import Overlap
from spinbench.control.costs.profiled_times import CONTEXT_STEP_TOKENS, ProfiledTimes
from spinbench.control.costs.round_prices import DraftPrices, row_slopes_s
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.drafting.drafted_again import job_again_s, log_chance, mean_drafted_again, own_again_s
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import DraftJob, TokenSpans, VerifyJob
from spinbench.control.layout.packed import PackedLayout
from tests.control.contexts import context, outcome
from tests.control.made_costs import cost_model

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"))
SOURCES = DraftSources.of(DRAFTERS)
MOST = 4


@pytest.mark.parametrize("lengths", [[0, 0, 0], [2, 2, 2], [4, 0, 1], [1, 0, 0]])
def test_verification_as_the_cost_model_says(lengths):
    costs = cost_model(DRAFTERS)
    tokens = np.array([40, 60, 80])
    prices = ProfiledTimes(costs, SOURCES, MOST).prices(
        replace(context(3), context_tokens=tokens), np.zeros((3, 3), int)
    )
    stop = tokens + lengths
    job = VerifyJob(TokenSpans(np.arange(3), tokens - 1, stop), PackedLayout().plan(np.array(lengths) + 1, stop))
    # the cost model counts drafted tokens among the keys, a little more than the context
    drafting_s = sum(n > 0 for n in lengths) * prices.drafting_s + float(prices.row_s @ lengths)
    assert prices.verify_s[sum(lengths)] + drafting_s == pytest.approx(costs.job_s(job) + costs.gap_s(job), rel=0.01)


@pytest.mark.parametrize("times", [ProfiledTimes(cost_model(DRAFTERS), SOURCES, MOST), LearnedTimes(SOURCES, MOST)])
def test_a_draft_that_is_there_already_is_verified_with_the_others(times):
    missing = np.zeros((3, 3), int)
    whole = times.prices(context(3), missing)
    beside = times.prices(replace(context(2), num_ready=1, ready_tokens=3), missing[:2])
    # of the three one has 3 tokens, and pays for having a draft
    ready_s = whole.drafting_s + 3 * whole.row_s[0]
    assert beside.verify_s[: 2 * MOST + 1] == pytest.approx(whole.verify_s[3 : 3 + 2 * MOST + 1] + ready_s)
    assert len(beside.verify_s) == 2 * 2 * MOST + 1


@pytest.mark.parametrize("times", [ProfiledTimes(cost_model(DRAFTERS), SOURCES, MOST), LearnedTimes(SOURCES, MOST)])
def test_prices_are_of_a_round_beside_as_many_others(times):
    prices = times.prices(replace(context(2), num_in_flight=3), np.zeros((2, 3), int))
    assert prices.schedule == RoundSchedule(num_in_flight=3)


@pytest.mark.parametrize("source", [0, 1, 2])
def test_drafting_as_the_cost_model_says(source):
    costs = cost_model(DRAFTERS)
    tokens = CONTEXT_STEP_TOKENS // 2  # where prices are exact
    seen = replace(context(3), context_tokens=np.full(3, tokens))
    draft = ProfiledTimes(costs, SOURCES, MOST).prices(seen, np.zeros((3, 3), int)).draft
    by_lookup = np.full(3, source == 2)
    job = DraftJob(
        source, TokenSpans(np.arange(3), np.full(3, tokens - 1), np.full(3, tokens)), np.full(3, 4), by_lookup, False
    )
    predicted_s = draft.job_s[source] + 4 * draft.step_s[source]
    predicted_s += 3 * (draft.request_s[source] + 4 * draft.step_request_s[source])
    assert predicted_s == pytest.approx(costs.job_s(job) + costs.gap_s(job), rel=0.01)


def test_what_was_missed_costs_more_the_more_it_is():
    times = ProfiledTimes(cost_model(DRAFTERS), SOURCES, MOST)
    missing_s = times.prices(context(3), np.array([[1, 1, 0], [10, 40, 0], [200, 9000, 0]])).missing_s
    assert missing_s[0].tolist() == [0, 0, 0]
    assert (np.diff(missing_s[:, :2], axis=0) > 0).all()
    assert (missing_s[:, 2] == 0).all()


def test_lanes_that_are_slower_alone_are_priced_so():
    slowed = RoundSchedule(overlap=Overlap(2.0, 5.0, 3.0, 7.0))
    costs = replace(cost_model(DRAFTERS), gaps={})
    missing = np.array([[2, 40, 0]] * 3)
    alone, slow = (
        ProfiledTimes(costs, SOURCES, MOST, schedule).prices(context(3), missing) for schedule in (BY_TURNS, slowed)
    )
    for factor, names in ((2, ("verify_s", "drafting_s", "row_s", "row_slopes_s")), (3, ("missing_s",))):
        for name in names:
            assert getattr(slow, name) == pytest.approx(factor * np.array(getattr(alone, name)))
    for one, other in zip(astuple(slow.draft), astuple(alone.draft), strict=True):
        assert one == pytest.approx(3 * other)


def test_the_job_of_a_group_whose_guesses_may_be_right():
    draft = DraftPrices(np.array([4.0]), np.array([0.5]), np.array([1.0]), np.array([0.25]))
    steps = np.arange(3)
    # 4 + 2 x 0.5, and for each step 1 + 2 x 0.25
    assert draft.job_of_s(0, 2, steps).tolist() == [0, 6.5, 8]
    assert draft.job_of_s(np.s_[:, None], 2, steps).tolist() == [[0, 6.5, 8]]
    # two steps: 6 s of the job unless both guesses are right, and for each that is wrong 1 s
    guesses = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.8]])
    own_s = own_again_s(guesses, draft.own_s(0, steps)).sum(0)
    found_s = job_again_s(draft.lane_s(0, steps), own_s, log_chance(guesses).sum(0))
    assert found_s == pytest.approx([0, 6.5, 0.6 * 6 + 0.7 * 1])


def test_a_job_that_is_drafted_again_has_as_many_requests_as_missed():
    # two with 1/2: one request with 2/4, two with 1/4, given that there is any: 4/3
    assert mean_drafted_again(0.5, 2) == pytest.approx(4 / 3)
    assert [mean_drafted_again(guess, 3) for guess in (0.0, 1.0)] == [3, 1]
    assert mean_drafted_again(0.3, 1) == pytest.approx(1)


def test_prices_that_are_forgotten_come_out_the_same(monkeypatch):
    """With drafts made ahead there is any number of kinds of rounds."""
    monkeypatch.setattr("spinbench.control.costs.profiled_times.MAX_KNOWN", 8)
    times, missing = ProfiledTimes(cost_model(DRAFTERS), SOURCES, MOST), np.zeros((2, 3), int)
    kinds = [replace(context(2), num_ready=ready, ready_tokens=tokens) for ready in range(5) for tokens in range(9)]
    first = [times.prices(kind, missing) for kind in kinds]
    assert len(times._known) == 8
    for before, kind in zip(first, kinds, strict=True):
        again = times.prices(kind, missing)
        assert np.array_equal(before.verify_s, again.verify_s)
        assert np.array_equal(before.row_slopes_s, again.row_slopes_s)
        assert all(map(np.array_equal, astuple(before.draft), astuple(again.draft)))


def test_slopes_are_those_of_the_curve():
    assert row_slopes_s(np.array([1.0, 2.0, 3.0, 5.0, 7.0])).tolist() == [1.0, 2.0]
    assert row_slopes_s(np.array([3.0])).tolist() == []


def test_learned_times_come_to_what_jobs_take():
    rng, times = np.random.default_rng(0), LearnedTimes(SOURCES, MOST)
    for _ in range(300):
        count = int(rng.integers(1, 9))
        drafter = np.full(count, rng.integers(-1, 3))
        done = outcome(range(count), drafter, [0] * count, [0.0] * count)
        drafted = np.where(drafter < 0, 0, rng.integers(1, MOST + 1, count))
        steps, rows = int(drafted.max()), int(drafted.sum())
        draft_s = {-1: 0.0, 0: 0.1 + steps * (0.2 + 0.01 * count), 1: 0.1 + 0.5 * steps, 2: 0.01}[int(drafter[0])]
        done = done._replace(
            drafted=drafted, drafted_nodes=drafted, draft_steps=np.where(drafter == 2, 0, drafted), by_lookup=drafter == 2,
            draft_time_s=np.full(count, draft_s),
            verify_time_s=4 + 0.1 * count + 0.05 * rows,
        )  # fmt: skip
        times.observe(done)
    prices = times.prices(context(4), np.ones((4, 3), int))
    assert prices.verify_s[[0, 8]] == pytest.approx([4.4, 4.8], rel=0.02)
    draft = prices.draft
    assert draft.job_s[0] + 3 * (draft.step_s[0] + 4 * draft.step_request_s[0]) == pytest.approx(0.82, rel=0.05)
    assert draft.job_s[1] + 3 * (draft.step_s[1] + 4 * draft.step_request_s[1]) == pytest.approx(1.6, rel=0.05)
    assert draft.job_s[2] + draft.step_s[2] == pytest.approx(0.01, rel=0.2)


def test_before_the_first_round_only_ratios_are_known():
    prices = LearnedTimes(SOURCES, MOST).prices(context(2), np.ones((2, 3), int))
    assert (np.diff(prices.verify_s) > 0).all()
    assert (prices.draft.step_s[:2] < prices.verify_s[0]).all()
