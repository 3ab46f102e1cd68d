"""SPIN's selector: explore in the first slots of an epoch, then match requests to drafters by estimated goodput."""

from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.assignment import Assignment
from spinbench.control.selector.matching import match_requests
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import GoodputEstimate, RewardKind
from spinbench.errors import UserError


class SpinSelector:
    """Multi-armed bandit with one arm per drafter (arXiv 2503.15921, reconstructed; every open point is a parameter).

    Time is cut in slots of `rounds_per_slot` rounds with one assignment each; `slots_per_epoch` slots make an epoch, of
    which the first `exploring_slots` assign at random and the others by maximum-weight matching. A request that
    arrives within a slot is assigned at once, by the rule of that slot. With several micro-batches all running requests
    share slots and places. Where KV is prepared (switching=ahead), the assignment of a slot is made as the last round
    before it begins, so without what that round brings.
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
        self._assigned = Assignment(setting.num_requests, self._num_drafters)
        self._assigned_next = Assignment(setting.num_requests, self._num_drafters)
        """For the slot behind this one, as far as it was made ahead of its time."""
        self._placed: tuple[IntArray | None, IntArray] = None, np.empty(0, np.int64)
        """Requests of the last round and their drafters, None = they may have lost them since."""
        self._max_num_seqs = setting.max_num_seqs
        self._pass_of = np.full(setting.num_requests, -1, np.int64)
        """The pass that each request last had a round in."""
        self._num_passes = 0
        self._num_in_pass = 0
        """Requests that had theirs in the present pass, and are not over."""

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
        rows = to_place = context.rows
        if self._begins_slot(rows):
            # those of other micro-batches are matched with these, and change over with their own next round
            to_place = self._with_those_elsewhere(rows)
            self._assigned, self._assigned_next = self._assigned_next, self._assigned
            self._assigned_next.clear()
        elif rows is self._placed[0]:
            return self._placed[1]  # within a slot nobody came
        drafters = self._assigned.of(rows)
        if len(to_place) > len(rows) or np.count_nonzero(drafters == NO_DRAFTER):
            self._assign(self._assigned, to_place, rows, (self._num_passes - 1) // self._rounds_per_slot)
            drafters = self._assigned.of(rows)
        self._placed = rows, drafters
        return drafters

    def next_drafters(self, context: RoundContext) -> IntArray:
        """Assign for the next slot what will be in it with its next round, a pass from now; else as assigned."""
        slot = self._num_passes // self._rounds_per_slot
        if slot == (self._num_passes - 1) // self._rounds_per_slot:
            return self._assigned.of(context.rows)
        self._assign(self._assigned_next, self._with_those_elsewhere(context.rows), context.rows, slot)
        return self._assigned_next.of(context.rows)

    def _with_those_elsewhere(self, rows: IntArray) -> IntArray:
        """These requests, and behind them the running ones of other micro-batches."""
        others = self._assigned.others_than(rows)
        return np.concatenate((rows, others)) if len(others) else rows

    def _assign(self, assigned: Assignment, to_place: IntArray, own: IntArray, slot: int) -> None:
        """Give those of `to_place` that have no drafter in `assigned` one by the rule of the slot.

        `own` are the requests of the round: they get places at any rate.
        """
        lacking = assigned.of(to_place) == NO_DRAFTER
        if not np.count_nonzero(lacking):
            return
        to_place = to_place[lacking]
        num_held = assigned.num_held
        if len(assigned) + len(to_place) > self._max_num_seqs:  # some were preempted, and hold places that others need
            is_own = np.zeros(len(self._pass_of), np.bool_)
            is_own[own] = True
            to_place = to_place[is_own[to_place]]
            num_held = assigned.num_held_by(own)
        places = np.maximum(self._capacities - num_held, 0)
        if slot % self._slots_per_epoch < self._exploring_slots:
            drafters = self._random(len(to_place), places)
        else:
            drafters = match_requests(self._estimate.of(to_place), places)
        assigned.give(to_place, drafters)

    def observe(self, outcome: RoundOutcome) -> None:
        """Update the goodput estimates, and free the places of finished requests."""
        self._estimate.update(outcome)
        if not np.count_nonzero(outcome.finished):
            return
        over = outcome.rows[outcome.finished]
        self._placed = None, over
        self._assigned.free(over)
        self._assigned_next.free(over)
        self._num_in_pass -= int(np.count_nonzero(self._pass_of[over] == self._num_passes))

    def _begins_slot(self, rows: IntArray) -> bool:
        """Count a round, and say whether a slot begins with it.

        In a pipeline a round of the batch is a pass: each running request's turn, in whatever micro-batch. The next one
        begins when a request's turn comes again, or all that had theirs are over.
        """
        present = self._num_passes
        # the first had its turn already in nearly every round of a pipeline of depth 1
        had_turn = self._pass_of[rows[0]] == present or present in self._pass_of[rows].tolist()
        begins = bool(not self._num_in_pass or had_turn)
        if begins:
            self._num_passes += 1
            self._num_in_pass = 0
        self._pass_of[rows] = self._num_passes
        self._num_in_pass += len(rows)
        return begins and (self._num_passes - 1) % self._rounds_per_slot == 0

    def _random(self, num_requests: int, places: IntArray) -> IntArray:
        pool = np.repeat(np.arange(self._num_drafters), np.minimum(places, num_requests))
        return self._rng.permutation(pool)[:num_requests]
