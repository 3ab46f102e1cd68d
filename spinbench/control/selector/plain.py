"""No speculation: the baseline of every speed-up."""

from collections.abc import Sequence

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting


class PlainSelector:
    """Never drafts, so that each round is one step of ordinary decoding."""

    needs_confidence = False

    def __init__(self, setting: SelectorSetting) -> None: ...

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """No drafter for anyone."""
        return [None] * len(contexts)

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Nothing to learn."""
