"""The paired bootstrap: it covers what is true, and pairs take out what the sides have in common."""

import numpy as np

from spinbench.report.comparison.bootstrap import mean, percentile, ratio_interval, ratio_of_sums


def sides(rng: np.random.Generator, ratio: float, repeats: int = 1, requests: int = 60):
    common = rng.lognormal(3.0, 1.0, (1, requests, 1))
    noise = rng.lognormal(0.0, 0.05, (2, repeats, requests, 1))
    return common * noise[0], ratio * common * noise[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(60):
        low, high = ratio_interval(*sides(rng, 1.05), mean, rng) or (0.0, 0.0)
        covered += low <= 1.05 <= high
    # 95 % of 60 are 57; a percentile interval of 60 requests covers a little less
    assert 50 <= covered <= 60


def test_pairs_tell_apart_what_their_spread_would_hide() -> None:
    rng = np.random.default_rng(0)
    before, after = sides(rng, 1.05)
    paired = ratio_interval(before, after, mean, rng)
    unpaired = ratio_interval(before, rng.permuted(after, axis=1), mean, rng)
    assert paired is not None
    assert unpaired is not None
    assert 1 < paired[0] < 1.05 < paired[1]
    assert unpaired[0] < 1 < unpaired[1]


def test_equal_sides_have_ratio_one() -> None:
    values = np.random.default_rng(1).random((2, 9, 1))
    for statistic in (mean, percentile(99)):
        assert ratio_interval(values, values, statistic, np.random.default_rng(2)) == (1.0, 1.0)


def test_of_two_repeats_the_bounds_are_their_ratios() -> None:
    before, after = np.array([[[10.0]], [[20.0]]]), np.array([[[11.0]], [[24.0]]])
    assert ratio_interval(before, after, percentile(50), np.random.default_rng(0)) == (1.1, 1.2)


def test_nothing_to_draw_from() -> None:
    one = np.ones((1, 1, 1))
    assert ratio_interval(one, one, mean, np.random.default_rng(0)) is None
    none = np.zeros((1, 3, 1))
    assert ratio_interval(none, none, mean, np.random.default_rng(0)) is None


def test_a_ratio_of_sums_weighs_by_the_second() -> None:
    values = np.array([[[6.0, 2.0], [1.0, 1.0]]])
    assert ratio_of_sums(values).tolist() == [7 / 3]
