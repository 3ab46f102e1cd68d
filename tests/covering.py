"""Matrix tests: by default a sample of all cases in which every two values of two parameters meet at least once.

Most bugs that hang on a combination hang on two of its values (Kuhn, Wallace, Gallo: "Software fault interactions and
implications for software testing", IEEE TSE 30(6), 2004). The cases outside the sample carry the marker `full_matrix`.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def matrix(
    parameters: Mapping[str, Iterable[Any]], where: Callable[..., bool] = lambda **_: True, strength: int = 2
) -> pytest.MarkDecorator:
    """Parametrizes a test by all combinations of values for which `where` holds; the sample runs by default.

    Values are hashable and tell what they are as text: they make the case's id.
    """
    names = tuple(parameters)
    cases = [case for case in itertools.product(*parameters.values()) if where(**dict(zip(names, case, strict=True)))]
    sample = set(covering_sample(cases, strength))
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(*case, id="-".join(map(str, case)), marks=() if place in sample else pytest.mark.full_matrix)
            for place, case in enumerate(cases)
        ],
    )
