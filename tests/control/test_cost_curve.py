import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.cost_curve import MAX_TABLE_COUNT, Curve, RaggedAttention, rising

SECONDS = st.floats(0, 100, allow_subnormal=False)


def test_a_curve_is_linear_between_its_knots_and_flat_before_the_first() -> None:
    curve = Curve((2, 4, 8), (1.0, 2.0, 6.0))
    assert [curve.of(count) for count in (0, 1, 2, 3, 4, 5, 8)] == [1.0, 1.0, 1.0, 1.5, 2.0, 3.0, 6.0]


def test_beyond_the_last_knot_it_goes_on_with_the_last_slope() -> None:
    # slope (6 - 2) / (8 - 4) = 1 a count, more than 6 / 8
    assert Curve((2, 4, 8), (1.0, 2.0, 6.0)).of(10) == 8.0


def test_a_curve_that_is_flat_at_its_end_goes_on_in_proportion() -> None:
    assert Curve((1, 10), (5.0, 5.0)).of(20) == 10.0
    assert Curve((10,), (5.0,)).of(20) == 10.0


def test_a_curve_with_more_counts_than_its_table_interpolates_all_the_same() -> None:
    top = 4 * MAX_TABLE_COUNT
    curve = Curve((1, MAX_TABLE_COUNT // 2, top), (1.0, 2.0, 9.0))
    for count in (MAX_TABLE_COUNT, MAX_TABLE_COUNT + 1, top - 1, top):
        assert curve.of(count) == pytest.approx(np.interp(count, curve.counts, curve.seconds))


@pytest.mark.parametrize(
    ("counts", "seconds"),
    [((), ()), ((1, 2), (1.0,)), ((2, 2), (1.0, 2.0)), ((0, 2), (1.0, 2.0)), ((1, 2), (2.0, 1.0)), ((1,), (-1.0,))],
)
def test_what_is_no_rising_curve_is_refused(counts: tuple[int, ...], seconds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="curve"):
        Curve(counts, seconds)


@given(st.lists(st.tuples(SECONDS, st.floats(0.1, 10)), min_size=1, max_size=12))
def test_rising_never_falls_and_keeps_the_weighted_sum(pairs: list[tuple[float, float]]) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    risen = rising(values, weights)
    assert risen == sorted(risen)
    assert np.dot(risen, weights) == pytest.approx(np.dot(values, weights))


@given(st.lists(SECONDS, min_size=1, max_size=12))
def test_rising_leaves_what_rises_alone(values: list[float]) -> None:
    assert rising(sorted(values), [1.0] * len(values)) == sorted(values)


def test_attention_of_each_kind() -> None:
    attention = RaggedAttention(1.0, 2.0, 3.0, 5.0, 7.0, 11.0, Curve((2, 4), (13.0, 17.0)))
    assert attention.decode_s(10) == 2 + 3 * 10
    # 3 rows over 10 keys: the decode, its own start, 2 further rows, 2 x 10 further cells
    assert attention.extend_s(3, 10) == 2 + 3 * 10 + 5 + 2 * 7 + 2 * 10 * 11
    assert attention.requests_s([0], [4]) == 2 + 17
    # a request of each kind; a context of a single token is a decode
    parts = attention.decode_s(10) + attention.extend_s(3, 10) + attention.requests_s([0], [4]) + attention.decode_s(1)
    assert attention.requests_s([9, 7, 0, 0], [10, 10, 4, 1]) == parts
