"""Drafters in turn."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import ConfigDict, Field, validate_call

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting


class RoundRobinSelector:
    """Requests get drafters in turn as they arrive, and move on to the next after `rounds_per_choice` rounds."""

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, rounds_per_choice: Annotated[int, Field(ge=1)]) -> None:
        setting.require_drafters("round_robin")
        self._num_drafters = len(setting.drafters)
        self._rounds_per_choice = rounds_per_choice
        self._first: dict[str, int] = {}
        self._num_seen = 0

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """The drafter whose turn it is, per request."""
        chosen: list[int | None] = []
        for context in contexts:
            if context.request_id not in self._first:
                self._first[context.request_id] = self._num_seen
                self._num_seen += 1
            turn = self._first[context.request_id] + context.num_rounds // self._rounds_per_choice
            chosen.append(turn % self._num_drafters)
        return chosen

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Forget finished requests."""
        for outcome in outcomes:
            if outcome.finished:
                self._first.pop(outcome.request_id, None)
