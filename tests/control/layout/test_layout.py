"""Every plan computes every useful cell once; searched ones cost least and never take more memory than padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spinbench.control.cost_curve import RectangleAttention, RectangleShape
from spinbench.control.layout.decomposed import (
    Cut,
    DecomposedLayout,
    equal_pieces,
    equal_shapes,
    memory_keys,
    unequal_pieces,
)
from spinbench.control.layout.grouped import GroupedLayout, window_groups
from spinbench.control.layout.memory import AttentionShape, peak_bytes, touched_bytes
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutPlan, whole_contexts
from spinbench.control.layout.protocol import LayoutSetting, VerificationLayout
from spinbench.errors import UserError

SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 900)), min_size=1, max_size=12)
LAWS = st.tuples(*[st.floats(0, 1, allow_subnormal=False) for _ in range(7)]).map(
    lambda c: RectangleAttention(30 * c[0], 5 * c[1], c[2], 0.1 * c[3], 0.1 * c[4] + 1e-6, 30 * c[5], c[6])
)


def lengths(shape: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    queries = np.array([q for q, _ in shape])
    return queries, queries + np.array([before for _, before in shape])


def searching(law: RectangleAttention) -> LayoutSetting:
    return LayoutSetting({"grouped": law, "decomposed": law})


def assert_whole(plan: LayoutPlan, queries: np.ndarray, keys: np.ndarray) -> None:
    """Each key of each request lies in one piece, and the counts are those of the rectangles."""
    useful = int(queries @ keys)
    assert plan.useful_cells == useful
    assert plan.padded_cells >= 0
    if not plan.rectangles:
        assert plan.padded_cells == 0
        return
    assert useful + plan.padded_cells == sum(r.num_cells for r in plan.rectangles)
    assert plan.query_tokens == sum(len(r.places) * r.query_width for r in plan.rectangles)
    assert plan.key_tokens == sum(len(r.places) * r.key_width for r in plan.rectangles)
    assert plan.peak_key_tokens == max(len(r.places) * r.key_width for r in plan.rectangles)
    seen = [[] for _ in keys]
    for rectangle in plan.rectangles:
        assert rectangle.num_keys.max() == min(rectangle.key_width, rectangle.num_keys.max())
        assert rectangle.query_width >= queries[rectangle.places].max()
        for place, first, count in zip(rectangle.places, rectangle.first_key, rectangle.num_keys, strict=True):
            seen[place] += range(first, first + count)
    assert [sorted(positions) for positions in seen] == [list(range(count)) for count in keys]
    pieces = np.bincount(np.concatenate([r.places for r in plan.rectangles]))
    merged = int(pieces[pieces > 1].sum()) * plan.rectangles[0].query_width
    assert plan.merged_query_tokens == merged
    if merged:
        assert len({r.query_width for r in plan.rectangles}) == 1


@settings(max_examples=60, deadline=None)
@given(SHAPES, LAWS, st.integers(1, 400), st.integers(0, 400))
def test_every_key_is_in_one_piece(shape, law, width, window):
    queries, keys = lengths(shape)
    setting = searching(law)
    layouts: list[VerificationLayout] = [
        PackedLayout(), PaddedLayout(), GroupedLayout(window_tokens=window), GroupedLayout(setting, None),
        DecomposedLayout(width=width), DecomposedLayout(setting),
        DecomposedLayout(width=width, pieces="unequal", window_tokens=window),
        DecomposedLayout(setting, pieces="unequal"),
    ]  # fmt: skip
    for layout in layouts:
        assert_whole(layout.plan(queries, keys), queries, keys)


def test_cells_on_two_requests():
    plan = PaddedLayout().plan(np.array([5, 3]), np.array([100, 40]))
    assert plan.useful_cells == 620  # 5 * 100 + 3 * 40
    assert plan.padded_cells == 380  # 2 * 5 * 100 - 620
    assert plan.query_width == 5
    plan = DecomposedLayout(width=30).plan(np.array([5, 3]), np.array([100, 40]))
    # 4 and 2 pieces, 5 rows each
    assert (plan.query_tokens, plan.key_tokens, plan.merged_query_tokens) == (30, 180, 30)
    assert plan.padded_cells == 280  # 6 * 5 * 30 - 620
    assert plan.query_width == 0  # nothing is padded but attention
    plan = DecomposedLayout(width=30, pieces="unequal", window_tokens=5).plan(np.array([5, 3]), np.array([100, 40]))
    # whole pieces 3 + 1, rests 10 and 10 in one rectangle
    assert [(len(r.places), r.key_width) for r in plan.rectangles] == [(4, 30), (2, 10)]
    assert plan.padded_cells == 80  # 5 * (4 * 30 + 2 * 10) - 620
    assert plan.peak_key_tokens == 120


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.integers(0, 200))
def test_groups_are_within_the_window_and_as_few_as_can_be(tokens, window):
    keys = np.array(tokens)
    groups = window_groups(keys, window)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(keys)))
    spans = [(keys[group].max(), keys[group].min()) for group in groups]
    assert all(longest - shortest <= window for longest, shortest in spans)
    # greedy from the longest: the next group would not have fitted into this one
    assert all(spans[i][0] - spans[i + 1][0] > window for i in range(len(spans) - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 6), LAWS)
def test_no_width_costs_less_than_the_searched_one(tens, rows, law):
    keys = 32 * np.array(tens)  # what the search rounds to
    queries = np.full(len(keys), rows)
    chosen = DecomposedLayout(searching(law)).plan(queries, keys)
    padded = PaddedLayout().plan(queries, keys)
    for width in range(max(1, int(keys.max()) // 4), int(keys.max()) + 1):
        plan = equal_pieces(queries, keys, width)
        if memory_keys(plan) <= padded.key_tokens:
            assert law.of(chosen.shape) <= law.of(plan.shape) * (1 + 1e-9)


def test_shapes_of_many_widths_are_those_of_their_plans():
    queries, keys, widths = np.full(3, 4), np.array([90, 31, 60]), np.array([90, 45, 31, 20, 7])
    shapes = equal_shapes(4, keys, widths)
    for place, width in enumerate(widths.tolist()):
        assert tuple(column[place] for column in shapes) == equal_pieces(queries, keys, width).shape


@settings(max_examples=80, deadline=None)
@given(SHAPES, LAWS, st.sampled_from(["equal", "unequal"]), st.sampled_from([1, 3, 8]), st.sampled_from([2, 4]))
def test_searched_pieces_never_take_more_memory_than_padding(shape, law, pieces, share, value_bytes):
    queries, keys = lengths(shape)
    of_token = AttentionShape(share * 2, 2, 64, value_bytes)
    plan = DecomposedLayout(searching(law), pieces=pieces).plan(queries, keys)
    assert peak_bytes(plan, of_token) <= peak_bytes(PaddedLayout().plan(queries, keys), of_token)


def test_memory_on_one_batch():
    shape = AttentionShape(num_heads=4, num_kv_heads=2, head_dim=8, value_bytes=2)
    queries, keys = np.array([3, 2]), np.array([10, 6])
    padded = PaddedLayout().plan(queries, keys)
    # query rows of 4 * 8 * 2 = 64 bytes, keys with values of 2 * 2 * 8 * 2 = 64
    assert touched_bytes(padded, shape) == 64 * 6 + 64 * 20
    # 20 keys copied; mask of 60 cells x 2 heads x 2 bytes; 20 slots of 8; 6 rows of queries and results
    assert peak_bytes(padded, shape) == 64 * 20 + 60 * 4 + 160 + 64 * 12
    packed = PackedLayout().plan(queries, keys)
    assert touched_bytes(packed, shape) == 64 * 5 + 64 * 16
    assert peak_bytes(packed, shape) == 64 * 5


def test_a_batch_is_searched_once():
    layout = DecomposedLayout(searching(RectangleAttention(1.0, 1.0, 0.0, 0.1, 0.0, 1.0, 0.0)))
    queries = np.full(3, 5)
    for grown in range(20):
        layout.plan(queries, np.array([900, 420, 65]) + grown)
    layout.plan(queries, np.array([65, 900, 420]))  # another order
    # rounded up to 32: 928, 448, 96, all the while
    assert layout._chosen.num_searches == 1
    layout.plan(queries, np.array([900, 420, 97]))
    layout.plan(queries + 1, np.array([900, 420, 65]))
    assert layout._chosen.num_searches == 3


def test_a_search_without_a_law_is_refused():
    for make in (
        lambda: DecomposedLayout(),
        lambda: DecomposedLayout(LayoutSetting({})),
        lambda: DecomposedLayout(width=9, pieces="unequal"),
        lambda: GroupedLayout(window_tokens=None),
    ):
        with pytest.raises(UserError, match=r"set engine.profile to one that was made with layouts=\[packed,padded,"):
            make()
    DecomposedLayout(width=9)
    with pytest.raises(ValidationError):
        DecomposedLayout(width=0)


def test_merging_decides_against_pieces_where_it_is_dear():
    queries, keys = np.full(4, 2), np.array([1024, 256, 256, 256])
    free = RectangleAttention(0.0, 0.0, 0.0, 1.0, 0.0)
    assert DecomposedLayout(searching(free)).plan(queries, keys).key_tokens == 1024 + 3 * 256
    dear = RectangleAttention(0.0, 0.0, 0.0, 1.0, 0.0, merge_s=1e6)
    assert DecomposedLayout(searching(dear)).plan(queries, keys).rectangles[0].key_width == 1024
    # several rectangles need no merge
    plan = DecomposedLayout(searching(dear), pieces="unequal").plan(queries, keys)
    assert (len(plan.rectangles), plan.merged_query_tokens) == (2, 0)


def test_whole_contexts_of_some_requests():
    rectangle = whole_contexts(np.array([1, 4, 2]), np.array([9, 30, 12]), np.array([2, 0]))
    assert (rectangle.query_width, rectangle.key_width) == (2, 12)
    assert unequal_pieces(np.array([4, 2]), np.array([30, 12]), Cut(31, 30)).shape == RectangleShape(
        1, 2, 8, 60, 240, 0, 0
    )
