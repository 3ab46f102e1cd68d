"""No speculation: the baseline of every speed-up."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting


class PlainSelector:
    """Never drafts, so that each round is one step of ordinary decoding."""

    needs_confidence = False

    def __init__(self, setting: SelectorSetting) -> None: ...

    def choose(self, context: RoundContext) -> IntArray:
        """No drafter for anyone."""
        return np.full(len(context), NO_DRAFTER, np.int64)

    def observe(self, outcome: RoundOutcome) -> None:
        """Nothing to learn."""
