"""What a selector is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafter import DrafterInfo
from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class SelectorSetting:
    """What every selector is built with."""

    drafters: tuple[DrafterInfo, ...]
    max_num_seqs: int
    """Most requests in a round."""
    rng: np.random.Generator

    def drafter_index(self, name: str) -> int:
        """Position of a drafter; UserError naming the choices if there is none of this name."""
        names = [drafter.name for drafter in self.drafters]
        if name not in names:
            raise UserError(f"selector.drafter is {name!r}; the drafters of this run are {', '.join(names) or 'none'}")
        return names.index(name)

    def require_drafters(self, selector: str) -> None:
        """UserError unless there is at least one drafter."""
        if not self.drafters:
            raise UserError(f"selector={selector} needs at least one drafter; models.drafters is empty")


class Selector(Protocol):
    """Chooses a drafter per request and round and learns from what came of it.

    A new selector is one class with these members and one YAML file that names it as `_target_`.
    """

    needs_confidence: bool
    """Whether drafters shall measure their top-1 probability (`LastRound.confidence`)."""

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """Per request the index of a drafter, or `None` for plain decoding in this round."""
        ...

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Learn from a finished round, given in the order of its contexts."""
        ...
