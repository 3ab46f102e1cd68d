"""The terms that plans are put together from, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.costs.round_prices import DraftPrices, RoundPrices, row_slopes_s
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.placement import Placement
from spinbench.control.selector.draft_terms import DraftTerms

OWN, TOGETHER = Placement("own_devices"), Placement("drafters_together")
VERIFY_S = 10.0 + np.arange(9)
PRICES = RoundPrices(
    verify_s=VERIFY_S, row_slopes_s=row_slopes_s(VERIFY_S), drafting_s=1.0, row_s=np.array([1.0, 3.0]),
    draft=DraftPrices(np.array([4.0, 6.0]), np.array([1.0, 2.0]), np.array([2.0, 3.0]), np.array([1.0, 1.0])),
    missing_s=np.array([[0.0, 0.0], [8.0, 2.0]]),
)  # fmt: skip
"""Two requests, two models, K of 2."""
ORDER, SOURCE = np.array([0, 2, 3, 1]), np.array([0, 1])
"""The first model's first token for the first request, the second one's two for the second, the first one's second."""


def terms(schedule: RoundSchedule, *guess: float) -> DraftTerms:
    guesses = np.tile(guess or (0.5, 0.5), (2, 2, 1)) if schedule.drafts_ahead else None
    prices = replace(PRICES, schedule=schedule)
    return DraftTerms.of(np.full((2, 2, 2), 0.5), prices, 1.0, np.array([1.0, 0.5]), guesses)


@pytest.mark.parametrize(
    ("schedule", "drafting_s", "verify_s", "round_s"),
    [
        # the rest is in the drafts' worth: 4 + 2, and 6 + 3 of the other model, 6 + 6, 4 + 4
        (BY_TURNS, [0, 6, 6 + 9, 6 + 12, 8 + 12], [10, 11, 12, 13, 14], [10, 17, 27, 31, 34]),
        # a request adds 1 + 1, then 1 s to the first model's job; the other one 2 + 1 and half of 2 s, then 1 s: 6 + 2
        # and 8 + 3, 9 + 4 and 12 + 5. Rows: 1 + 1, then 3 + 1, 3 and 1 s
        (RoundSchedule(OWN), [0, 8, 13, 17, 17], [10, 13, 18, 22, 24], [10, 21, 31, 39, 41]),
        (RoundSchedule(OWN, num_in_flight=1), [0, 8, 13, 17, 17], [10, 13, 18, 22, 24], [10, 13, 18, 22, 24]),
        (RoundSchedule(TOGETHER, num_in_flight=1), [0, 8, 21, 25, 28], [10, 13, 18, 22, 24], [10, 13, 21, 25, 28]),
        # half of the above; ahead the first model takes 4 + 2 x 2 + 1 + 2, then 4 + 3 x 2 + 1 + 3, the other one
        # 6 + 2 x 3 + 2 + 2, then 6 + 3 x 3 + 2 + 3: 11 and 14, 16 and 20
        (RoundSchedule(OWN, drafts_ahead=True), [0, 4, 6.5, 8.5, 8.5], [10, 13, 18, 22, 24],
         [10, 4 + 13, 6.5 + 18, 8.5 + 22, 8.5 + 24]),
        (RoundSchedule(drafts_ahead=True), [0, 4, 10.5, 12.5, 14], [10, 13, 18, 22, 24],
         [10, 4 + 13 + 11, 10.5 + 18 + 27, 12.5 + 22 + 31, 14 + 24 + 34]),
    ],
    ids=["by turns", "side by side", "micro-batches", "micro-batches, drafters by turns", "ahead", "ahead on one device"],
)  # fmt: skip
def test_seconds_of_more_and_more_tokens(schedule, drafting_s, verify_s, round_s):
    spent = terms(schedule).spent(ORDER, SOURCE, 2)
    assert spent.drafting_s == pytest.approx(drafting_s)
    assert spent.verify_s == pytest.approx(verify_s)
    assert spent.round_s == pytest.approx(round_s)


def test_a_job_is_left_out_only_where_all_its_guesses_are_right():
    # both requests have the first model: 3 of 4 times it has to draft, 0.75 x 6, for half of 2 s and, with half of the
    # 8 s of a catch-up, of 6 s; ahead it drafts for both, 4 + 2 x 2 + 2 x (1 + 2)
    schedule = RoundSchedule(OWN, drafts_ahead=True)
    spent = terms(schedule).spent(np.array([0, 2]), np.array([0, 0]), 2)
    assert spent.drafting_s == pytest.approx([0, 4, 0.75 * 6 + 1 + 3])
    assert spent.round_s == pytest.approx([10, 4 + 13, 8.5 + 18])
    # and where none is made, it drafts for all
    none = terms(RoundSchedule(drafts_ahead=True), 0.0, 0.0).spent(np.array([0, 2]), np.array([0, 0]), 2)
    assert none.drafting_s == pytest.approx([0, 8, 6 + 2 + 6])
    assert none.round_s == pytest.approx([10, 8 + 13, 14 + 18])


def test_the_longer_a_draft_the_less_likely_is_it_kept():
    # half of 6 and 2 s with one token, three quarters of 8 and 3 s with two
    spent = terms(RoundSchedule(OWN, drafts_ahead=True), 0.5, 0.25).spent(np.array([0, 1]), np.array([0, 0]), 2)
    assert spent.drafting_s == pytest.approx([0, 3 + 1, 6 + 2.25])


def test_a_second_draft_pays_for_its_rows_alone():
    # of the second request: 3 + 1, and 3 s for the one beside
    spent = terms(RoundSchedule(OWN)).spent(np.array([2, 6]), np.array([0, 1, 1, 0]), 2)
    assert spent.verify_s == pytest.approx([10, 11 + 4, 12 + 7])


def test_what_drafts_are_ranked_by():
    # of the first request and model: 0.5 tokens each, 1 s a row and 1 s for the first one; it adds 2 s, then 1 s to a job
    charged, free, survival, without_rows = [-3.5, -5], [-1.5, -2], [0.5, 1], [-1.5, -2]
    by_turns, side_by_side = terms(BY_TURNS), terms(RoundSchedule(OWN))
    assert by_turns.paid[0, 0].tolist() == charged
    assert [rank[0, 0].tolist() for rank, _ in by_turns.ranks] == [charged]
    assert side_by_side.paid[0, 0].tolist() == free
    assert [rank[0, 0].tolist() for rank, _ in side_by_side.ranks] == [charged, free]
    hidden = terms(RoundSchedule(OWN, num_in_flight=1))
    assert hidden.paid[0, 0].tolist() == survival
    assert [rank[0, 0].tolist() for rank, _ in hidden.ranks] == [charged, free, without_rows]
    assert [slopes.tolist() for _, slopes in hidden.ranks] == [[1], [1], [0]]
    # drafted for again half of the time
    assert terms(RoundSchedule(OWN, drafts_ahead=True)).ranks[0][0][0, 0].tolist() == [-2.5, -3.5]
