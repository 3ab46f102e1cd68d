"""SPIN's selector: explore in the first slots of an epoch, then match requests to drafters by estimated goodput."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, validate_call

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.selector.matching import match_requests
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import GoodputEstimate, RewardKind
from spinbench.errors import UserError


class SpinSelector:
    """Multi-armed bandit with one arm per drafter (arXiv 2503.15921, reconstructed; every open point is a parameter).

    Time is cut in slots of `rounds_per_slot` rounds with one assignment each; `slots_per_epoch` slots make an epoch, of
    which the first `exploring_slots` assign at random and the others by maximum-weight matching. A request that
    arrives within a slot is assigned at once, by the rule of that slot.
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
        self._estimate = GoodputEstimate(reward, self._num_drafters, decay, prior_rounds, per_request)
        self._assigned: dict[str, int] = {}
        self._num_rounds = 0

    @staticmethod
    def _resolve_capacity(capacity: int | list[int] | None, setting: SelectorSetting) -> list[int]:
        num_drafters = len(setting.drafters)
        if isinstance(capacity, list) and len(capacity) != num_drafters:
            raise UserError(f"selector.capacity has {len(capacity)} entries; there are {num_drafters} drafters")
        places = capacity if isinstance(capacity, list) else [capacity or setting.max_num_seqs] * num_drafters
        if sum(places) < setting.max_num_seqs:
            raise UserError(
                f"selector.capacity gives {sum(places)} places in all; the batch needs scheduler.max_num_seqs = "
                f"{setting.max_num_seqs}"
            )
        return places

    def choose(self, contexts: Sequence[RoundContext]) -> list[int | None]:
        """Reassign everyone when a slot begins; else keep the assignment and place newcomers."""
        slot = self._num_rounds // self._rounds_per_slot
        if self._num_rounds % self._rounds_per_slot == 0:
            self._assigned.clear()
        self._num_rounds += 1
        newcomers = [context.request_id for context in contexts if context.request_id not in self._assigned]
        if newcomers:
            places = self._free_places({context.request_id for context in contexts})
            exploring = slot % self._slots_per_epoch < self._exploring_slots
            chosen = self._random(newcomers, places) if exploring else self._matched(newcomers, places)
            self._assigned.update(zip(newcomers, chosen, strict=True))
        return [self._assigned[context.request_id] for context in contexts]

    def observe(self, outcomes: Sequence[RoundOutcome]) -> None:
        """Update the goodput estimates and free the places of finished requests."""
        for outcome in outcomes:
            self._estimate.update(outcome)
            if outcome.finished:
                self._assigned.pop(outcome.request_id, None)

    def _free_places(self, present: set[str]) -> list[int]:
        held = np.zeros(self._num_drafters, int)
        for request_id, drafter in self._assigned.items():
            if request_id in present:
                held[drafter] += 1
        return np.maximum(np.array(self._capacities) - held, 0).tolist()

    def _random(self, request_ids: list[str], places: list[int]) -> list[int]:
        pool = np.repeat(np.arange(self._num_drafters), [min(count, len(request_ids)) for count in places])
        return self._rng.permutation(pool)[: len(request_ids)].tolist()

    def _matched(self, request_ids: list[str], places: list[int]) -> list[int]:
        goodput = np.stack([self._estimate.of(request_id) for request_id in request_ids])
        return match_requests(goodput, places)
