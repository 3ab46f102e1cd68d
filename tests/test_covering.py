"""Samples of matrix tests leave no two values of two parameters apart that can stand together."""

import importlib
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.covering import Case, Matrix, covering_sample, parametrize

TESTS = Path(__file__).parent


def _matrix_tests() -> Iterator[tuple[str, Any]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        if "@matrix(" in path.read_text(encoding="utf-8") and path != Path(__file__):
            module = importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
            for name, function in inspect.getmembers(module, inspect.isfunction):
                if any(mark.name == "matrix" for mark in getattr(function, "pytestmark", [])):
                    yield f"{path.stem}.{name}", function


MATRIX_TESTS = dict(_matrix_tests())


class Collected:
    """What pytest hands to `parametrize`: a test and the run's choice of markers; keeps the cases made."""

    def __init__(self, mark: pytest.Mark, markexpr: str) -> None:
        self._mark, self._markexpr = mark, markexpr
        self.definition = self.config = self
        self.names: tuple[str, ...] = ()
        self.cases: list[Case] = []
        self.marked: list[Case] = []

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self._mark if self._mark.name == name else None

    def getoption(self, name: str) -> str:
        return {"markexpr": self._markexpr}[name]

    def parametrize(self, names: tuple[str, ...], cases: list[Any]) -> None:
        self.names = names
        self.cases = [case.values for case in cases]
        self.marked = [case.values for case in cases if any(mark.name == "full_matrix" for mark in case.marks)]


def _collected(function: Any, markexpr: str) -> Collected:
    mark = next(mark for mark in function.pytestmark if mark.name == "matrix")
    collected: Any = Collected(mark, markexpr)
    parametrize(collected)
    return collected


def _pairs(cases: list[Case], apart: set[tuple[int, ...]]) -> set[tuple[Any, ...]]:
    """Places of two parameters that are not apart, and the values that they have in some case."""
    return {
        (one, case[one], other, case[other])
        for case in cases
        for one in range(len(case))
        for other in range(one + 1, len(case))
        if (one, other) not in apart
    }


def test_the_matrix_tests_are_found() -> None:
    assert "test_lossless.test_speculation_is_lossless" in MATRIX_TESTS
    assert "test_exactness.test_with_the_runtimes_durations_everything_is_equal" in MATRIX_TESTS


@pytest.mark.parametrize("name", MATRIX_TESTS)
def test_the_default_run_has_every_pair_of_values_and_the_marker_the_rest(name: str) -> None:
    function = MATRIX_TESTS[name]
    by_default, everything = _collected(function, "not full_matrix"), _collected(function, "")
    assert set(by_default.names) <= set(inspect.signature(function).parameters)
    (apart,) = (mark.args[0].places_apart() for mark in function.pytestmark if mark.name == "matrix")
    assert _pairs(by_default.cases, apart) == _pairs(everything.cases, apart)
    assert by_default.marked == []
    assert len(everything.cases) == len(set(everything.cases))
    assert sorted(map(repr, [*by_default.cases, *everything.marked])) == sorted(map(repr, everything.cases))
    assert _collected(function, "full_matrix").marked == everything.marked


def test_all_values_of_a_matrix_are_among_its_cases() -> None:
    cases = Matrix({"a": (1, 2, 3), "b": "xy", "c": (True, False)}, lambda a, b, c: b == "x" or a == 1, 2).cases()
    assert cases == [
        (1, "x", True), (1, "x", False), (1, "y", True), (1, "y", False), (2, "x", True), (2, "x", False), (3, "x", True),
        (3, "x", False),
    ]  # fmt: skip


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.integers(2, 3),
    st.sets(st.integers(0, 255), max_size=40),
)
def test_what_meets_in_any_case_meets_in_the_sample(sizes: list[int], strength: int, left_out: set[int]) -> None:
    product = list(itertools.product(*map(range, sizes)))
    cases = [case for place, case in enumerate(product) if place not in left_out]
    sample = [cases[place] for place in covering_sample(cases, strength)]

    def groups(of: list[Case]) -> set[tuple[Any, ...]]:
        return {
            (*places, *(case[place] for place in places))
            for case in of
            for places in itertools.combinations(range(len(sizes)), min(strength, len(sizes) + 1))
        }

    assert groups(sample) == groups(cases)
    # no case is there for nothing: each brought something when it was taken
    assert len(sample) <= len(groups(cases))


def test_what_is_apart_need_not_meet() -> None:
    cases = list(itertools.product(range(5), range(4), range(2)))
    apart = covering_sample(cases, apart=[(0, 1)])
    assert len(apart) == 5 * 2 < 5 * 4 <= len(covering_sample(cases))
    assert {cases[place][1:] for place in apart} == set(itertools.product(range(4), range(2)))
    matrix = Matrix({"a": range(5), "b": range(4), "c": range(2)}, lambda **_: True, 2, [("b", "a")])
    assert matrix.sample(matrix.cases()) == set(apart)
    with pytest.raises(ValueError, match="a parameter meets no other one"):
        covering_sample(cases, apart=[(0, 1), (1, 2)])


def test_a_sample_is_small_and_always_the_same() -> None:
    cases = list(itertools.product(range(9), range(5), range(5), range(4), range(3), range(2)))
    sample = covering_sample(cases)
    assert 9 * 5 <= len(sample) <= 50
    assert covering_sample(cases) == sample
