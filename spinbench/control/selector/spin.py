"""SPIN's selector: explore in the first slots of an epoch, then match requests to drafters by estimated goodput."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.matching import match_requests
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import GoodputEstimate, RewardKind
from spinbench.errors import UserError


class SpinSelector:
    """Multi-armed bandit with one arm per drafter (arXiv 2503.15921, reconstructed; every open point is a parameter).

    Time is cut in slots of `rounds_per_slot` rounds with one assignment each; `slots_per_epoch` slots make an epoch, of
    which the first `exploring_slots` assign at random and the others by maximum-weight matching. A request that
    arrives within a slot is assigned at once, by the rule of that slot. Where KV is prepared (switching=ahead), the
    assignment of a slot is made as the last round before it begins, so without what that round brings.
    """

    needs_confidence = False

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        setting: SelectorSetting,
        *,
        rounds_per_slot: Annotated[int, Field(ge=1)],
        slots_per_epoch: Annotated[int, Field(ge=1)],
        exploring_slots: Annotated[int, Field(ge=0)],
        reward: RewardKind,
        decay: Annotated[float, Field(gt=0, le=1)],
        prior_rounds: Annotated[float, Field(ge=0)],
        per_request: bool,
        capacity: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]] | None,
    ) -> None:
        setting.require_drafters("spin")
        if exploring_slots > slots_per_epoch:
            raise UserError(
                f"selector.exploring_slots is {exploring_slots}; it must be at most selector.slots_per_epoch "
                f"({slots_per_epoch})"
            )
        self._num_drafters = len(setting.drafters)
        self._capacities = self._resolve_capacity(capacity, setting)
        self._rng = setting.rng
        self._rounds_per_slot = rounds_per_slot
        self._slots_per_epoch = slots_per_epoch
        self._exploring_slots = exploring_slots
        self._estimate = GoodputEstimate(reward, setting, decay, prior_rounds, per_request)
        self._assigned = np.full(setting.num_requests, NO_DRAFTER, np.int64)
        self._assigned_next = np.full(setting.num_requests, NO_DRAFTER, np.int64)
        """For the slot behind this one, as far as it was made ahead of its time."""
        self._num_rounds = 0

    @staticmethod
    def _resolve_capacity(capacity: int | list[int] | None, setting: SelectorSetting) -> IntArray:
        num_drafters = len(setting.drafters)
        if isinstance(capacity, list) and len(capacity) != num_drafters:
            raise UserError(f"selector.capacity has {len(capacity)} entries; there are {num_drafters} drafters")
        places = capacity if isinstance(capacity, list) else [capacity or setting.max_num_seqs] * num_drafters
        if sum(places) < setting.max_num_seqs:
            raise UserError(
                f"selector.capacity gives {sum(places)} places in all; the batch needs scheduler.max_num_seqs = "
                f"{setting.max_num_seqs}"
            )
        return np.array(places, np.int64)

    def choose(self, context: RoundContext) -> IntArray:
        """Reassign everyone when a slot begins; else keep the assignment and place newcomers."""
        slot = self._num_rounds // self._rounds_per_slot
        if self._num_rounds % self._rounds_per_slot == 0:
            self._assigned, self._assigned_next = self._assigned_next, self._assigned
            self._assigned_next.fill(NO_DRAFTER)
        self._num_rounds += 1
        return self._assign(self._assigned, context.rows, slot)

    def next_drafters(self, context: RoundContext, rounds_ahead: int) -> IntArray:
        """Assign for the next slot what will be in it; else as assigned."""
        slot = (self._num_rounds - 1) // self._rounds_per_slot
        slot_then = (self._num_rounds - 1 + rounds_ahead) // self._rounds_per_slot
        if slot_then == slot:
            return self._assigned[context.rows]
        if slot_then > slot + 1:  # a slot of fewer rounds than are in flight
            return np.full(len(context), NO_DRAFTER, np.int64)
        return self._assign(self._assigned_next, context.rows, slot_then)

    def _assign(self, assigned: IntArray, rows: IntArray, slot: int) -> IntArray:
        """Give those of `rows` that have no drafter in `assigned` one by the rule of the slot; returns everyone's."""
        present = assigned[rows]
        newcomers = rows[present == NO_DRAFTER]
        if not len(newcomers):
            return present
        held = np.bincount(present[present != NO_DRAFTER], minlength=self._num_drafters)
        places = np.maximum(self._capacities - held, 0)
        if slot % self._slots_per_epoch < self._exploring_slots:
            assigned[newcomers] = self._random(len(newcomers), places)
        else:
            assigned[newcomers] = match_requests(self._estimate.of(newcomers), places)
        return assigned[rows]

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the goodput estimates."""
        self._estimate.update(outcome)

    def _random(self, num_requests: int, places: IntArray) -> IntArray:
        pool = np.repeat(np.arange(self._num_drafters), np.minimum(places, num_requests))
        return self._rng.permutation(pool)[:num_requests]
