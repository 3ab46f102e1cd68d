"""How many tokens each request drafts in a round (K, `num_speculative_tokens`): what every policy has."""

from typing import Protocol, runtime_checkable

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome


@runtime_checkable
class DraftLength(Protocol):
    """Chooses K per request and round; the loop cuts it to what the request may still emit.

    A selector that has these members as well chooses both, and is used instead of the configured policy.
    """

    max_num_speculative_tokens: int

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        """K for each request, int [requests], given the drafter chosen for it (-1 = none); 0 = decode plainly."""
        ...

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a finished round, given in the order of its context."""
        ...


@runtime_checkable
class WeighsRounds(Protocol):
    """A draft-length policy whose K depends on what else a round holds, or takes, and so on the pipeline's depth."""

    weighs_rounds: bool
