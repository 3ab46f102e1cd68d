"""Who is asked about which requests, and what of a choice is left for some of them."""

from dataclasses import replace

import numpy as np

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.ready_drafts import ReadyDrafts
from spinbench.control.rounds.choice import RoundChooser
from tests.control.contexts import context


class Listener:
    """Takes the last drafter, and remembers what it was told."""

    needs_confidence = False

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.asked: list[int] = []

    def begin(self, context: RoundContext) -> None:
        self.kept += context.rows.tolist()

    def choose(self, context: RoundContext) -> np.ndarray:
        self.asked += context.rows.tolist()
        return np.full(len(context), 2)

    def observe(self, outcome: RoundOutcome) -> None: ...


def _ready(jobs: list[int]) -> ReadyDrafts:
    ready = ReadyDrafts.none(len(jobs))
    ready.job[:], ready.drafter[:], ready.num_tokens[:] = jobs, 1, 3
    return ready


def test_only_requests_without_a_draft_are_asked_about():
    listener = Listener()
    choice = RoundChooser(listener, FixedDraftLength(5)).choose(context(4), _ready([-1, 7, -1, 8]))
    assert (choice.drafter.tolist(), choice.num_speculative_tokens.tolist()) == ([2, 1, 2, 1], [5, 3, 5, 3])
    assert (listener.kept, listener.asked) == ([1, 3], [0, 2])


def test_nobody_is_asked_where_all_have_one():
    listener = Listener()
    choice = RoundChooser(listener, FixedDraftLength(5)).choose(context(2), _ready([4, 4]))
    assert (choice.drafter.tolist(), choice.num_speculative_tokens.tolist()) == ([1, 1], [3, 3])
    assert (listener.kept, listener.asked) == ([0, 1], [])


def test_no_more_is_drafted_than_can_be_emitted():
    seen = replace(context(3), remaining_tokens=np.array([1, 4, 99]))
    assert RoundChooser(Listener(), FixedDraftLength(5)).choose(seen).num_speculative_tokens.tolist() == [0, 3, 5]


class Branching(Listener):
    """Has two more tokens drafted beside for the request at place 1, and more than it can emit for the one at 2."""

    branches = True

    def beside(self, context: RoundContext) -> tuple[np.ndarray, np.ndarray]:
        return np.array([4, 4, 4]), np.array([0, 7, 9])


def test_a_choice_for_some_keeps_what_belongs_to_them():
    branching, seen = Branching(), replace(context(3), remaining_tokens=np.array([99, 99, 3]))
    choice = RoundChooser(branching, FixedDraftLength(5), branching).choose(seen, _ready([-1, -1, -1]))
    assert choice.beside is not None
    assert [part.tolist() for part in choice.beside] == [[-1, 4, 4], [0, 7, 2]]
    assert choice.depth.tolist() == [5, 7, 2]
    last = choice.only(np.array([2, 1]))
    assert (last.context.rows.tolist(), last.depth.tolist()) == ([2, 1], [2, 7])
    assert last.ready is not None
    assert len(last.ready.job) == len(last) == 2
    assert choice.only(np.array([True, False, False])).beside is None
