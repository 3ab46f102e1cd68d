"""Matrix tests: by default a sample of all cases in which every two values of two parameters meet at least once.

Most bugs that hang on a combination hang on two of its values (Kuhn, Wallace, Gallo: "Software fault interactions and
implications for software testing", IEEE TSE 30(6), 2004). The cases outside the sample carry the marker `full_matrix`.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

Case = tuple[Any, ...]
Meeting = tuple[tuple[int, Any], ...]
"""Values of some parameters that meet in a case, each with its parameter's place."""


def meetings(case: Case, strength: int) -> Iterator[Meeting]:
    """All groups of `strength` values of a case."""
    return itertools.combinations(enumerate(case), strength)


def covering_sample(cases: Sequence[Case], strength: int = 2) -> list[int]:
    """Places of cases in which all groups of `strength` values meet that meet in any case, ascending.

    Greedy: always the case with most new meetings. What a case adds never grows as others are taken, so only the case
    on top of the heap is counted anew (Minoux, "Accelerated greedy algorithms", 1978).
    """
    missing = {meeting for case in cases for meeting in meetings(case, strength)}
    order = list(range(len(cases)))
    random.Random(0).shuffle(order)  # neighbours have nearly all values in common
    heap = [(-len(missing), turn, place) for turn, place in enumerate(order)]
    sample = []
    while missing:
        _, turn, place = heapq.heappop(heap)
        new = sum(meeting in missing for meeting in meetings(cases[place], strength))
        if heap and -new > heap[0][0]:
            heapq.heappush(heap, (-new, turn, place))
            continue
        missing.difference_update(meetings(cases[place], strength))
        sample.append(place)
    return sorted(sample)


@dataclass(frozen=True)
class Matrix:
    """All combinations of values of a test's parameters for which `where` holds."""

    parameters: Mapping[str, Iterable[Any]]
    where: Callable[..., bool]
    strength: int

    def cases(self) -> list[Case]:
        """Values by case, in the order of the parameters."""
        cases = itertools.product(*self.parameters.values())
        return [case for case in cases if self.where(**dict(zip(self.parameters, case, strict=True)))]


def matrix(
    parameters: Mapping[str, Iterable[Any]], where: Callable[..., bool] = lambda **_: True, strength: int = 2
) -> pytest.MarkDecorator:
    """Parametrizes a test by a matrix of values, which are hashable and tell as text what they are."""
    return pytest.mark.matrix(Matrix(parameters, where, strength))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make the cases of a test with a matrix; those outside the sample only if the run may select them."""
    mark = metafunc.definition.get_closest_marker("matrix")
    if mark is None:
        return
    cases = mark.args[0].cases()
    sample = set(covering_sample(cases, mark.args[0].strength))
    sample_alone = metafunc.config.getoption("markexpr") == "not full_matrix"
    metafunc.parametrize(
        tuple(mark.args[0].parameters),
        [
            pytest.param(*case, id="-".join(map(str, case)), marks=() if place in sample else pytest.mark.full_matrix)
            for place, case in enumerate(cases)
            if place in sample or not sample_alone
        ],
    )
