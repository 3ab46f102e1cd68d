import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.assignment import Assignment

NUM_REQUESTS, NUM_DRAFTERS = 6, 3


@pytest.fixture
def assignment() -> Assignment:
    made = Assignment(NUM_REQUESTS, NUM_DRAFTERS)
    made.give(np.array([4, 1, 2]), np.array([2, 0, 2]))
    return made


def test_places_are_counted_by_drafter(assignment: Assignment):
    assert assignment.of(np.array([1, 4, 0])).tolist() == [0, 2, NO_DRAFTER]
    assert (assignment.num_held.tolist(), len(assignment)) == ([1, 0, 2], 3)
    assert assignment.num_held_by(np.array([0, 2, 4])).tolist() == [0, 0, 2]


def test_others_come_in_the_order_of_rows(assignment: Assignment):
    assert assignment.others_than(np.array([2, 3])).tolist() == [1, 4]
    assert assignment.others_than(np.array([4, 1, 2])).tolist() == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, NUM_REQUESTS - 1), st.integers(0, NUM_DRAFTERS)), max_size=20))
def test_counts_are_those_of_the_requests(steps: list[tuple[int, int]]):
    assignment = Assignment(NUM_REQUESTS, NUM_DRAFTERS)
    for row, drafter in steps:
        rows = np.array([row])
        if drafter == NUM_DRAFTERS:
            assignment.free(rows)
        elif assignment.of(rows)[0] == NO_DRAFTER:
            assignment.give(rows, np.array([drafter]))
    everyone = np.arange(NUM_REQUESTS)
    assert assignment.num_held.tolist() == assignment.num_held_by(everyone).tolist()
    assignment.clear()
    assert len(assignment) == 0
    assert set(assignment.of(everyone)) == {NO_DRAFTER}
