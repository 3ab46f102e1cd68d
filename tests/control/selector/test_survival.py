"""Estimates of acceptance come to what is accepted, and start from what others showed."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.selector.survival import NUM_CELLS, SurvivalEstimate
from spinbench.control.selector.survival_prior import SurvivalPrior
from spinbench.workload.acceptance.agreement import MAX_AGREED
from tests.control.contexts import context, outcome, with_copies

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("prompt_lookup", "prompt_lookup"))
MOST = 4


def _estimate(**prior) -> SurvivalEstimate:
    return SurvivalEstimate(DraftSources.of(DRAFTERS), 50, MOST, SurvivalPrior(**prior))


def _round(
    estimate: SurvivalEstimate, rows, drafter: int, accepted, lookup_run=None, order: int = 0, drafted: int = MOST
):
    estimate.begin(replace(context(len(rows), rows=rows), lookup_match_order=np.full(len(rows), order)))
    done = outcome(rows, [drafter] * len(rows), accepted, [1.0] * len(rows))
    lengths = np.full(len(rows), drafted if drafter >= 0 else 0)
    done = done._replace(drafted=lengths, drafted_nodes=lengths, draft_steps=lengths)
    estimate.observe(with_copies(done, [order] * len(rows), lookup_run or [0] * len(rows)))


def test_chances_fall_along_a_draft_and_are_chances():
    survival = _estimate().survival(np.arange(3), 1.0)
    assert survival.shape == (3, 3, MOST)
    assert ((survival > 0) & (survival < 1)).all()
    assert (np.diff(survival, axis=2) < 0).all()


def test_a_models_rate_is_found_place_by_place():
    rng, estimate = np.random.default_rng(0), _estimate()
    rates = np.array([0.8, 0.5, 0.5, 0.5])
    for _ in range(400):
        hits = rng.random((4, MOST)) < rates
        _round(estimate, range(4), 0, np.cumprod(hits, 1).sum(1))
    found = estimate.survival(np.arange(4), 0.0)[:, 0].mean(0)
    assert found == pytest.approx(np.cumprod(rates), abs=0.06)


def test_copies_are_scored_while_another_drafts():
    estimate = _estimate()
    before = estimate.survival(np.arange(2), 0.0)[:, 2, 0]
    for _ in range(30):
        # the model gets nothing accepted, the token emitted is the copied one
        _round(estimate, [0, 1], 0, [0, 0], [1, 1], order=1)
    after = estimate.survival(np.arange(2), 0.0)
    assert (after[:, 2, 0] > np.maximum(before, 0.8)).all()
    assert (after[:, 0, 0] < 0.1).all()


def test_where_two_matches_part_a_copy_is_found_out():
    estimate = _estimate()

    def begin(rows, agreed):
        seen = replace(context(len(rows), rows=rows), lookup_match_order=np.full(len(rows), 2))
        estimate.begin(replace(seen, lookup_agreed=np.array(agreed)))

    for _ in range(60):
        # the first request's matches part at their first token, and the copy is wrong; the second's never do
        begin([0, 1], [0, MAX_AGREED])
        done = outcome([0, 1], [0, 0], [3, 3], [1.0, 1.0])
        estimate.observe(with_copies(done, [2, 2], [0, 4]))
    begin([7, 8, 9], [0, MAX_AGREED, 1])
    parted, agreed, parted_later = estimate.survival(np.array([7, 8, 9]), 0.0)[:, 2]
    assert agreed[0] > 3 * parted[0]
    assert parted_later[0] == pytest.approx(agreed[0])
    assert parted_later[1] < agreed[1]


def test_where_the_table_says_otherwise_a_copy_is_found_out():
    drafters = (DrafterInfo("n-ngram", "ngram"), DrafterInfo("prompt_lookup", "prompt_lookup"))
    estimate = SurvivalEstimate(DraftSources.of(drafters), 50, MOST, SurvivalPrior())

    def begin(rows, agreed):
        seen = replace(context(len(rows), rows=rows), lookup_match_order=np.full(len(rows), 2))
        estimate.begin(replace(seen, ngram_agreed=np.array(agreed), ngram_confidence=np.full(len(rows), 0.5)))

    for _ in range(60):
        # the table says something else in front of the first request, and is right; in front of the second the same
        begin([0, 1], [0, MAX_AGREED])
        done = with_copies(outcome([0, 1], [-1, -1], [3, 3], [1.0, 1.0]), [2, 2], [0, 4])
        sure = np.full((2, 5), 0.5)
        estimate.observe(done._replace(ngram_hindsight=lambda sure=sure: (sure, np.ones((2, 5), np.bool_))))
    begin([7, 8], [0, MAX_AGREED])
    (table, copy), (same_table, same_copy) = estimate.survival(np.array([7, 8]), 0.0)
    assert same_copy[0] > 3 * copy[0]
    assert table[0] > 2 * copy[0]
    assert same_table[0] > 0.8


def test_what_was_not_seen_teaches_nothing():
    estimate = _estimate()
    before = estimate.survival(np.array([7]), 0.0)
    _round(estimate, [0], -1, [0])  # no draft, no match
    assert np.array_equal(estimate.survival(np.array([7]), 0.0), before)


def test_the_end_of_a_text_is_no_rejection():
    first, second = _estimate(), _estimate()
    for estimate, finished in ((first, True), (second, False)):
        estimate.begin(context(1))
        estimate.observe(outcome([0], [0], [1], [1.0])._replace(finished=np.array([finished])))
    ended, rejected = (estimate.survival(np.array([3]), 0.0)[0, 0] for estimate in (first, second))
    assert ended[1] > rejected[1]


def test_a_new_request_starts_with_what_others_showed_and_goes_its_own_way():
    estimate = _estimate(own=1.0)
    for _ in range(60):
        _round(estimate, [0, 1, 2], 0, [4, 4, 0])
    chance = estimate.survival(np.array([0, 2, 9]), 0.0)[:, 0, 0]
    assert chance[0] > chance[2] > chance[1]


def test_a_request_that_is_easy_for_one_model_is_expected_to_be_for_another():
    estimate = _estimate(own=1.0)
    for _ in range(20):
        _round(estimate, [0, 1], 0, [4, 0])
    easy, hard = estimate.survival(np.array([0, 1]), 0.0)[:, 1, 0]
    assert easy > hard + 0.05


def test_optimism_fades_with_evidence_and_is_not_for_copies():
    estimate = _estimate()

    def bonus() -> np.ndarray:
        return (estimate.survival(np.array([9]), 1.0) - estimate.survival(np.array([9]), 0.0))[0, :, 0]

    first = bonus()
    for _ in range(50):
        _round(estimate, [0, 1], 0, [2, 2])
    assert bonus()[0] < first[0] / 2
    assert bonus()[1] > first[1] / 2
    assert first[2] == 0


def test_cells_follow_match_and_streak():
    estimate = _estimate()
    _round(estimate, [0, 1], -1, [0, 0], [1, 0], order=2)  # the copy was right for the first request
    estimate.begin(replace(context(2), lookup_match_order=np.array([2, 2])))
    cells = estimate.cells(np.arange(2))
    # orders 2, 3, 3, 3 of 6 classes of streaks: 1, 2, 3, 4 tokens, or 0, 1, 2, 3
    assert cells.tolist() == [[13, 20, 20, 21], [12, 19, 20, 20]]
    assert cells.max() < NUM_CELLS
