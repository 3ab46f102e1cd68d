"""Drafters in turn."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
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
        self._first = np.full(setting.num_requests, -1, np.int64)
        """Per request, its number in the order of appearance."""
        self._num_seen = 0

    def choose(self, context: RoundContext) -> IntArray:
        """The drafter whose turn it is, per request."""
        new = context.rows[self._first[context.rows] < 0]
        self._first[new] = np.arange(self._num_seen, self._num_seen + len(new))
        self._num_seen += len(new)
        return (self._first[context.rows] + context.num_rounds // self._rounds_per_choice) % self._num_drafters

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Whose turn it is then."""
        return (self._first[context.rows] + (context.num_rounds + 1) // self._rounds_per_choice) % self._num_drafters

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
