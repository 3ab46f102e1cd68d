"""What a draft gains a request by itself, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.costs.round_prices import DraftPrices, RoundPrices, row_slopes_s
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.placement import Placement
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.look_ahead import Outlook
from spinbench.control.selector.own_gain import own_gain

OWN = Placement("own_devices")
VERIFY_S = 10.0 + np.arange(9)
PRICES = RoundPrices(
    verify_s=VERIFY_S, row_slopes_s=row_slopes_s(VERIFY_S), drafting_s=1.0, row_s=np.array([1.0, 3.0]),
    draft=DraftPrices(np.array([4.0]), np.array([1.0]), np.array([2.0]), np.array([1.0])),
    missing_s=np.array([[0.0], [4.0]]),
)  # fmt: skip
"""Two requests, a model, K of 2. A job takes 4 s, 2 a step, and of each request 1 s and 1 a step."""
OUTLOOK = Outlook(
    drafter=np.zeros((2, 1), np.int64), survival=np.full((2, 1, 2), 0.5), prices=PRICES, tokens_per_s=1.0,
    missing_share=np.array([1.0, 0.5]),
)  # fmt: skip
HALF = np.full((2, 1, 2), 0.5)


@pytest.mark.parametrize(
    ("schedule", "guesses", "seconds"),
    [
        # as many for both. First request: drafting takes 6 + 2 x 2 or 8 + 2 x 3, the verification of 2 or 4 rows 12 or
        # 14 s, their attention 2 x (1 + 1) or 2 x (1 + 2). Of the second one, 2 s of a catch-up each are to be paid and
        # 3 s a row: 6 + 2 x 4 or 8 + 2 x 5, and 2 x (1 + 3) or 2 x (1 + 6)
        (BY_TURNS, None, [[10 + 16, 14 + 20], [14 + 20, 18 + 28]]),
        (RoundSchedule(OWN), None, [[10 + 16, 14 + 20], [14 + 20, 18 + 28]]),
        (RoundSchedule(OWN, num_in_flight=1), None, [[16, 20], [20, 28]]),
        # three of four times a job is needed, 0.75 x 6 or 0.75 x 8, and of half of the requests what each adds; ahead
        # it makes a step more: 8 + 2 x 3 or 10 + 2 x 4
        (RoundSchedule(OWN, drafts_ahead=True), HALF, [[6.5 + 16, 9 + 20], [8.5 + 20, 11 + 28]]),
        (RoundSchedule(drafts_ahead=True), HALF, [[6.5 + 16 + 14, 9 + 20 + 18], [8.5 + 20 + 14, 11 + 28 + 18]]),
        (RoundSchedule(drafts_ahead=True), 0 * HALF, [[10 + 16, 14 + 20], [14 + 20, 18 + 28]]),
    ],
    ids=["by turns", "one drafter by itself", "micro-batches", "ahead", "ahead on one device", "nothing ahead"],
)  # fmt: skip
def test_tokens_less_an_equal_share_of_the_time(schedule, guesses, seconds):
    outlook = OUTLOOK._replace(prices=replace(PRICES, schedule=schedule), guesses=guesses)
    # 0.5 and 0.5 + 0.5 tokens, for half of what the round takes more than the 10 s of plain decoding
    assert own_gain(outlook)[:, 0] == pytest.approx(np.array([[0.5, 1.0]] * 2) - (np.array(seconds) - 10) / 2)


def test_drafting_in_the_shade_of_the_target_is_free_up_to_its_end():
    # in 10 s of verification a step of 4 s has room twice
    draft = DraftPrices(np.zeros(1), np.zeros(1), np.array([4.0]), np.zeros(1))
    prices = RoundPrices(
        np.full(7, 10.0), np.zeros(1), 0.0, np.zeros(1), draft, np.zeros((1, 1)), RoundSchedule(OWN, num_in_flight=1)
    )
    outlook = Outlook(np.zeros((1, 1), np.int64), np.ones((1, 1, 3)), prices, 1.0, np.ones(1))
    assert own_gain(outlook)[0, 0].tolist() == [1, 2, 3 - 2]


def test_nobody_gains_by_a_source_that_nobody_drafts_from():
    gain = own_gain(OUTLOOK._replace(drafter=np.array([[0], [NO_DRAFTER]])))
    assert (np.isneginf(gain[:, 0]) == [[False] * 2, [True] * 2]).all()
