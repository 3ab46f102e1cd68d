import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.selector.matching import match_requests


@st.composite
def _problems(draw):
    requests, drafters = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    capacities = draw(st.lists(st.integers(0, 5), min_size=drafters, max_size=drafters))
    capacities[0] += max(0, requests - sum(capacities))
    values = draw(st.lists(st.integers(0, 20), min_size=requests * drafters, max_size=requests * drafters))
    return np.array(values, float).reshape(requests, drafters), np.array(capacities)


@given(_problems())
def test_no_other_assignment_is_better(problem):
    goodput, capacities = problem
    requests, drafters = goodput.shape
    chosen = match_requests(goodput, capacities).tolist()
    assert all(chosen.count(drafter) <= capacities[drafter] for drafter in range(drafters))
    best = max(
        sum(goodput[row, column] for row, column in enumerate(assignment))
        for assignment in itertools.product(range(drafters), repeat=requests)
        if all(assignment.count(drafter) <= capacities[drafter] for drafter in range(drafters))
    )
    assert sum(goodput[row, column] for row, column in enumerate(chosen)) == best


def test_capacity_sends_the_request_that_loses_least_elsewhere():
    goodput = np.array([[10.0, 9.0], [10.0, 1.0]])
    assert match_requests(goodput, np.array([1, 2])).tolist() == [1, 0]  # 9 + 10 beats 10 + 1


def test_untried_drafters_come_first():
    goodput = np.array([[50.0, np.inf], [60.0, np.inf], [70.0, np.inf]])
    assert match_requests(goodput, np.array([3, 1])).tolist().count(1) == 1
    assert match_requests(goodput, np.array([3, 3])).tolist() == [1, 1, 1]


def test_too_few_places():
    with pytest.raises(ValueError, match="3 requests do not fit 2 places"):
        match_requests(np.ones((3, 2)), np.array([1, 1]))
