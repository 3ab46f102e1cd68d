"""A drafter drawn at random: what a selector must beat."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import ConfigDict, Field, validate_call

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting


class RandomSelector:
    """Each request keeps a drafter for `rounds_per_choice` of its rounds, then draws another, uniformly."""

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, rounds_per_choice: Annotated[int, Field(ge=1)]) -> None:
        setting.require_drafters("random")
        self._num_drafters = len(setting.drafters)
        self._rng = setting.rng
        self._rounds_per_choice = rounds_per_choice
        self._current: dict[str, int] = {}

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """A new draw where one is due, else the drafter that the request has."""
        for context in contexts:
            if context.num_rounds % self._rounds_per_choice == 0 or context.request_id not in self._current:
                self._current[context.request_id] = int(self._rng.integers(self._num_drafters))
        return [self._current[context.request_id] for context in contexts]

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Forget finished requests."""
        for outcome in outcomes:
            if outcome.finished:
                self._current.pop(outcome.request_id, None)
