"""What a selector is."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.round_schedule import RoundSchedule
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.placement import SHARED, Placement
from spinbench.errors import UserError


@dataclass(frozen=True, slots=True)
class SelectorSetting:
    """What every selector is built with."""

    drafters: tuple[DrafterInfo, ...]
    max_num_seqs: int
    """Most requests in a round."""
    num_requests: int
    """Requests of the whole run: rows are below it."""
    rng: np.random.Generator
    max_num_speculative_tokens: int = 0
    """Longest draft that the run's draft-length policy asks for, in tokens."""
    cost_model: CostModel | None = None
    """What jobs will take; None where nobody knows (on real models)."""
    foresight: Foresight | None = None
    """The texts to come; None where nobody knows them. For the oracle alone."""
    chooses_draft_length: bool = False
    """The selector is the draft-length policy as well (drafting=by_selector)."""
    placement: Placement = SHARED
    """Who works at the same time as whom."""
    allows_branches: bool = False
    """Drafts of two drafters for one request can be verified together, as a token tree."""
    drafts_ahead: bool = False
    """Drafters go on while what they drafted is verified (pipeline=draft_while_verify)."""
    overlap: Overlap = NOT_SLOWED
    """How target and drafters slow each other, where the cost model does not know it."""
    depths: range = range(1, 2)
    """Rounds in flight at the most: all that the pipeline may come to."""

    @property
    def schedule(self) -> RoundSchedule:
        """How the parts of this run's rounds add up, other rounds in flight not counted."""
        return RoundSchedule(self.placement, self.drafts_ahead, self.overlap)

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

    def require_foresight(self, selector: str) -> Foresight:
        """The texts to come. UserError where nobody knows them."""
        if self.foresight is None:
            raise UserError(
                f"selector={selector} knows every text in advance, which real models do not: it needs engine=simulation"
            )
        return self.foresight

    def require_cost_model(self, selector: str) -> CostModel:
        """What jobs will take. UserError where nobody knows it."""
        if self.cost_model is None:
            raise UserError(
                f"selector={selector} weighs what jobs will take; it needs durations that a profile predicts"
            )
        return self.cost_model


class Selector(Protocol):
    """Chooses a drafter per request and round and learns from what came of it.

    A new selector is one class with these members and one YAML file that names it as `_target_`.
    """

    needs_confidence: bool
    """Whether drafters shall measure their top-1 probability (`RoundContext.last_confidence`)."""

    def choose(self, context: RoundContext) -> IntArray:
        """Per request the index of a drafter, or -1 for plain decoding in this round; int [requests]."""
        ...

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a finished round, given in the order of its context."""
        ...


@runtime_checkable
class LearnsByContext(Protocol):
    """A selector that learns what a round came to by what was known before, and so has to be told that as well of the
    rounds that it does not choose for: those whose draft was made ahead (pipeline=draft_while_verify)."""

    def begin(self, context: RoundContext) -> None:
        """These requests keep their drafter for the round that begins; called before `choose` for the others."""
        ...


@runtime_checkable
class Branches(Protocol):
    """A selector that may ask a second drafter beside the first one, and have both drafts verified as one tree."""

    @property
    def branches(self) -> bool:
        """Whether it does so in this run at all."""
        ...

    def beside(self, context: RoundContext) -> tuple[IntArray, IntArray]:
        """Per request the second drafter, -1 = none, and its K, int [requests] each.

        Called behind `choose`, for requests of its context. Neither drafter of such a request has a KV cache, and the
        first tokens of their drafts differ.
        """
        ...


@runtime_checkable
class Announces(Protocol):
    """A selector that knows in advance who will draft for a request, so that its KV can be prepared (switching=ahead).

    SPIN makes an assignment ahead of its time for this (arXiv 2503.15921): what the round under way brings comes too
    late for it.
    """

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Per request of a round that has just begun, the drafter that it will have in its next one, int [requests].

        -1 where that is not known. Called once for each round; `choose` should keep to it. A request may be preempted
        or finished before.
        """
        ...
