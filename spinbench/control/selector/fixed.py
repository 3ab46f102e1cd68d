"""One drafter for all: ordinary speculative decoding."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting


class FixedSelector:
    """Always the drafter of the given name."""

    needs_confidence = False

    def __init__(self, setting: SelectorSetting, *, drafter: str) -> None:
        self._drafter = setting.drafter_index(drafter)

    def choose(self, context: RoundContext) -> IntArray:
        """The same drafter for everyone."""
        return np.full(len(context), self._drafter, np.int64)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
