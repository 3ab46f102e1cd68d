"""One drafter for all: ordinary speculative decoding."""

from collections.abc import Sequence

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.protocol import SelectorSetting


class FixedSelector:
    """Always the drafter of the given name."""

    needs_confidence = False

    def __init__(self, setting: SelectorSetting, *, drafter: str) -> None:
        self._drafter = setting.drafter_index(drafter)

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """The same drafter for everyone."""
        return [self._drafter] * len(contexts)

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Nothing to learn."""
