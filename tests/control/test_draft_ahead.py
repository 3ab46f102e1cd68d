"""Who is asked for a round of which some drafts are there already."""

import numpy as np

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_ahead import choose_beside
from spinbench.control.draft_length import FixedDraftLength
from spinbench.control.ready_drafts import ReadyDrafts
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
    drafters, lengths = choose_beside(_ready([-1, 7, -1, 8]), context(4), listener, FixedDraftLength(5))
    assert (drafters.tolist(), lengths.tolist()) == ([2, 1, 2, 1], [5, 3, 5, 3])
    assert (listener.kept, listener.asked) == ([1, 3], [0, 2])


def test_nobody_is_asked_where_all_have_one():
    listener = Listener()
    drafters, lengths = choose_beside(_ready([4, 4]), context(2), listener, FixedDraftLength(5))
    assert (drafters.tolist(), lengths.tolist()) == ([1, 1], [3, 3])
    assert (listener.kept, listener.asked) == ([0, 1], [])
