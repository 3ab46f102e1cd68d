import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.layout import PackedLayout, PaddedLayout

shapes = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 300)), min_size=1, max_size=12)


@given(shapes)
def test_useful_and_padded_make_up_what_is_launched(shape):
    queries = np.array([q for q, _ in shape])
    keys = queries + np.array([before for _, before in shape])
    packed, padded = PackedLayout().plan(queries, keys), PaddedLayout().plan(queries, keys)
    assert packed.padded_cells == 0
    assert packed.useful_cells == padded.useful_cells
    assert padded.useful_cells + padded.padded_cells == len(shape) * max(queries) * max(keys)
    assert padded.padded_cells >= 0


def test_cells_on_two_requests():
    plan = PaddedLayout().plan(np.array([5, 3]), np.array([100, 40]))
    assert plan.useful_cells == 620  # 5 * 100 + 3 * 40
    assert plan.padded_cells == 380  # 2 * 5 * 100 - 620
    assert plan.query_width == 5
