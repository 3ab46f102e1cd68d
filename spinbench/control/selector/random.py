"""A drafter drawn at random: what a selector must beat."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
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
        self._current = np.full(setting.num_requests, -1, np.int64)

    def choose(self, context: RoundContext) -> IntArray:
        """A new draw where one is due, else the drafter that the request has."""
        due = (context.num_rounds % self._rounds_per_choice == 0) | (self._current[context.rows] < 0)
        self._current[context.rows[due]] = self._rng.integers(self._num_drafters, size=int(np.count_nonzero(due)))
        return self._current[context.rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
