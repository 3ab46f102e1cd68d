"""A drafter drawn at random: what a selector must beat."""

from typing import Annotated

from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import SelectorSetting


class RandomSelector:
    """Each request keeps a drafter for `rounds_per_choice` of its rounds, then draws another, uniformly."""

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(self, setting: SelectorSetting, *, rounds_per_choice: Annotated[int, Field(ge=1)]) -> None:
        setting.require_drafters("random")
        self._num_drafters = len(setting.drafters)
        self._rng = setting.rng
        self._held = HeldChoice(setting.num_requests, rounds_per_choice)

    def choose(self, context: RoundContext) -> IntArray:
        """A new draw where one is due, else the drafter that the request has."""
        return self._held.choose(context, self._pick)

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Picked now where a choice is due with the next round."""
        return self._held.choose_next(context, self._pick)

    def _pick(self, rows: IntArray) -> IntArray:
        return self._rng.integers(self._num_drafters, size=len(rows))

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
