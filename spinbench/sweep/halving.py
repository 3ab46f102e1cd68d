"""Successive halving: all candidates on a small part of the work, the better ones on a larger part, the last on all.

As Jamieson and Talwalkar have it (AISTATS 2016), with one thing more: candidates may belong to a class (plain
decoding, single drafters), and of each class the better ones stay in as well, because an answer compares with the best
of a class. The parts are nested and the same for all, so that candidates are compared on the same requests.

Why no optimiser that models the scores: there are hundreds of candidates at most, most of them choices without an
order (which selector, which drafter), a score costs seconds, and each rung is a plain list of points that a sweep can
do on any number of workers, resume and never do twice. A sampler's next point would depend on the order in which
results come in.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Score = tuple[float, ...]
"""Larger is better; later entries decide between equals."""
Scores = Mapping[str, Score | None]
"""By candidate; None for one that cannot be served."""


@dataclass(frozen=True)
class Rung:
    """One step: who was scored on which part."""

    part: float
    """Share of the work, 1 = all of it."""
    scores: Scores

    @property
    def ranked(self) -> list[str]:
        """Who could be served, best first; equals in the order in which they were given."""
        return ranked(self.scores)


def parts(num_candidates: int, num_requests: int, factor: int, finalists: int, smallest: int) -> list[float]:
    """Shares of the work of each rung, the last being 1: `factor` times as much as in the rung before.

    As many rungs as it takes to come from all candidates to about `finalists`, but none on fewer than `smallest`
    requests.
    """
    found = [1.0]
    while num_candidates > finalists * factor ** (len(found) - 1) and num_requests * found[0] / factor >= smallest:
        found.insert(0, found[0] / factor)
    return found


def ranked(scores: Scores) -> list[str]:
    """Who has a score, best first; equals in the order of the mapping."""
    served = {name: score for name, score in scores.items() if score is not None}
    return sorted(served, key=lambda name: [-value for value in served[name]])


def survivors(scores: Scores, class_of: Mapping[str, str], factor: int, finalists: int) -> list[str]:
    """Who goes on: the best 1/`factor` of all, but at least `finalists`, and the same share of each class.

    In the order of `scores`. `class_of` has the candidates that belong to a class; each class keeps at least one.
    """
    order = ranked(scores)
    kept = set(order[: max(finalists, math.ceil(len(order) / factor))])
    for name in set(class_of.values()):
        members = [one for one in order if class_of.get(one) == name]
        kept.update(members[: math.ceil(len(members) / factor)])
    return [one for one in scores if one in kept]


def halve(
    candidates: Sequence[str],
    class_of: Mapping[str, str],
    shares: Sequence[float],
    factor: int,
    finalists: int,
    score: Callable[[Sequence[str], float], Scores],
) -> list[Rung]:
    """The rungs, the last of which has the finalists on all of the work; `score` does candidates on a share of it."""
    rungs: list[Rung] = []
    left = list(candidates)
    for part in shares:
        rungs.append(Rung(part, score(left, part)))
        left = survivors(rungs[-1].scores, class_of, factor, finalists)
    return rungs
