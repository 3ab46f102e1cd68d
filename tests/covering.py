"""Matrix tests: by default a sample of all cases in which every two values of two parameters meet at least once.

Most bugs that hang on a combination hang on two of its values (Kuhn, Wallace, Gallo: "Software fault interactions and
implications for software testing", IEEE TSE 30(6), 2004). The cases outside the sample carry the marker `full_matrix`.
Parameters that are said to be apart need not meet in the sample: code that reads the one does not know of the other.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pytest

Case = tuple[Any, ...]
Meeting = tuple[tuple[int, Any], ...]
"""Values of some parameters that meet in a case, each with its parameter's place."""
Places = tuple[int, ...]
"""Of parameters, ascending."""


def groups(num_parameters: int, strength: int, apart: Collection[Places] = ()) -> list[Places]:
    """Parameters whose values meet: all `strength` of them together that do not hold two of a pair of `apart`.

    Raises ValueError for a parameter that is apart from all others: its values might be left out.
    """
    found = [
        places
        for places in itertools.combinations(range(num_parameters), strength)
        if not any(pair in apart for pair in itertools.combinations(places, 2))
    ]
    if apart and {place for places in found for place in places} != set(range(num_parameters)):
        raise ValueError(f"a parameter meets no other one: {num_parameters} parameters, apart are {sorted(apart)}")
    return found


def meetings(case: Case, pick: Iterable[Callable[[Meeting], Meeting]]) -> list[Meeting]:
    """The values of a case that meet; `pick` takes those of some parameters out of all."""
    every = tuple(enumerate(case))
    return [some(every) for some in pick]


def covering_sample(cases: Sequence[Case], strength: int = 2, apart: Collection[Places] = ()) -> list[int]:
    """Places of cases in which all groups of `strength` values meet that meet in any case, ascending.

    Values of parameters in a pair of `apart` need not meet.

    Greedy: always the case with most new meetings. What a case adds never grows as others are taken, so only the case
    on top of the heap is counted anew (Minoux, "Accelerated greedy algorithms", 1978).
    """
    if not cases:
        return []
    pick = [itemgetter(*places) for places in groups(len(cases[0]), strength, apart)]
    missing = {meeting for case in cases for meeting in meetings(case, pick)}
    order = list(range(len(cases)))
    random.Random(0).shuffle(order)  # neighbours have nearly all values in common
    heap = [(-len(missing), turn, place) for turn, place in enumerate(order)]
    sample = []
    while missing:
        _, turn, place = heapq.heappop(heap)
        new = sum(meeting in missing for meeting in meetings(cases[place], pick))
        if heap and -new > heap[0][0]:
            heapq.heappush(heap, (-new, turn, place))
            continue
        missing.difference_update(meetings(cases[place], pick))
        sample.append(place)
    return sorted(sample)


@dataclass(frozen=True)
class Matrix:
    """All combinations of values of a test's parameters for which `where` holds."""

    parameters: Mapping[str, Iterable[Any]]
    where: Callable[..., bool]
    strength: int
    apart: Collection[tuple[str, str]] = ()

    def cases(self) -> list[Case]:
        """Values by case, in the order of the parameters."""
        cases = itertools.product(*self.parameters.values())
        return [case for case in cases if self.where(**dict(zip(self.parameters, case, strict=True)))]

    def places_apart(self) -> set[Places]:
        """Of the pairs of parameters that are apart."""
        place_of = {name: place for place, name in enumerate(self.parameters)}
        return {tuple(sorted((place_of[one], place_of[other]))) for one, other in self.apart}

    def sample(self, cases: Sequence[Case]) -> set[int]:
        """Places of the cases that a run has by default."""
        return set(covering_sample(cases, self.strength, self.places_apart()))


def matrix(
    parameters: Mapping[str, Iterable[Any]],
    where: Callable[..., bool] = lambda **_: True,
    strength: int = 2,
    apart: Collection[tuple[str, str]] = (),
) -> pytest.MarkDecorator:
    """Parametrizes a test by a matrix of values, which are hashable and tell as text what they are.

    `apart` has pairs of parameters that need not meet in the sample.
    """
    return pytest.mark.matrix(Matrix(parameters, where, strength, apart))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make the cases of a test with a matrix; those outside the sample only if the run may select them."""
    mark = metafunc.definition.get_closest_marker("matrix")
    if mark is None:
        return
    cases = mark.args[0].cases()
    sample = mark.args[0].sample(cases)
    sample_alone = metafunc.config.getoption("markexpr") == "not full_matrix"
    metafunc.parametrize(
        tuple(mark.args[0].parameters),
        [
            pytest.param(*case, id="-".join(map(str, case)), marks=() if place in sample else pytest.mark.full_matrix)
            for place, case in enumerate(cases)
            if place in sample or not sample_alone
        ],
    )
