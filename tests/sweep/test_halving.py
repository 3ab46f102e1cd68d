"""Successive halving: who goes on, and that the best is found wherever parts of the work tell the truth."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from spinbench.sweep.halving import halve, parts, ranked, survivors


def test_rungs_grow_by_the_factor_to_all_of_the_work() -> None:
    # 96 -> 32 -> 11: two halvings by 3 bring 96 near 8, and 240 / 9 requests are still 24 or more
    assert parts(96, 240, 3, 8, 24) == [1 / 9, 1 / 3, 1.0]
    assert parts(96, 240, 3, 8, 60) == [1 / 3, 1.0]
    assert parts(96, 30, 3, 8, 24) == [1.0]
    assert parts(8, 10_000, 3, 8, 24) == [1.0]


def test_each_class_keeps_its_best() -> None:
    scores = {"a": (9.0,), "b": (8.0,), "c": (7.0,), "plain": (1.0,), "x": (2.0,), "y": (3.0,), "lost": None}
    class_of = {"plain": "plain", "x": "single", "y": "single"}
    assert survivors(scores, class_of, 3, 1) == ["a", "b", "plain", "y"]
    assert survivors(scores, class_of, 3, 3) == ["a", "b", "c", "plain", "y"]


def test_equals_are_told_apart_by_what_follows_then_by_their_order() -> None:
    assert ranked({"a": (1.0, -5.0), "b": (1.0, -4.0), "c": (1.0, -5.0), "d": None}) == ["b", "a", "c"]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["", "plain", "single"])), min_size=1, max_size=60),
    st.integers(2, 4),
    st.integers(1, 6),
    st.integers(1, 2000),
)
def test_without_noise_the_best_of_all_and_of_each_class_is_never_dropped(
    drawn: list[tuple[int, str]], factor: int, finalists: int, num_requests: int
) -> None:
    values = {f"c{place}": value for place, (value, _) in enumerate(drawn)}
    class_of = {f"c{place}": name for place, (_, name) in enumerate(drawn) if name}
    shares = parts(len(values), num_requests, factor, finalists, 10)
    assert shares[-1] == 1
    assert all(num_requests * share >= 10 for share in shares[:-1])
    # on a part every score is the whole's share of it: the order is the same, the numbers are not
    rungs = halve(list(values), class_of, shares, factor, finalists, lambda names, part: {
        name: (values[name] * part,) for name in names
    })  # fmt: skip
    last = rungs[-1].scores
    assert len(rungs) == len(shares)
    assert max(values[name] for name in last) == max(values.values())
    for kind in set(class_of.values()):
        members = [name for name in class_of if class_of[name] == kind]
        assert max(values[name] for name in last if name in members) == max(values[name] for name in members)
    for before, after in itertools.pairwise(rungs):
        assert set(after.scores) <= set(before.scores)
        assert len(after.scores) >= min(len(before.scores), finalists, math.ceil(len(before.scores) / factor))
