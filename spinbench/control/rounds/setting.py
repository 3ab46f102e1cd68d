"""What the rounds of a run have in common."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.drafter_groups import DrafterGroups
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.layout.protocol import VerificationLayout


class Nobodys(NamedTuple):
    """Columns of requests for whom nothing was drafted, [requests] each, which no round may change."""

    zeros: IntArray
    unknown: FloatArray
    """NaN."""
    no: BoolArray
    """False."""


class RoundSetting:
    """Drafters as arrays, so that a round treats all its requests at once, and how they draft and are verified."""

    def __init__(
        self,
        drafters: Sequence[DrafterInfo],
        layout: VerificationLayout,
        *,
        measure_confidence: bool = False,
        tree: TreeShape | None = None,
        members: Sequence[int] = (),
        stop: ConfidenceStop | None = None,
        branches: bool = False,
    ) -> None:
        """The drafter behind the last one stands for all `members`; `stop` ends models' drafts of themselves.

        With `branches` a request may have a second drafter.
        """
        self.drafters = tuple(drafters)
        self.layout = layout
        self.measure_confidence = measure_confidence
        self.tree = tree
        self.members = tuple(members)
        self.stop = stop
        self.groups = DrafterGroups(len(self.drafters), self.members)
        self.has_kv_cache: BoolArray = np.array([drafter.has_kv_cache for drafter in self.drafters], np.bool_)
        self._min_copied_order: IntArray = np.array([drafter.min_copied_order for drafter in self.drafters], np.int64)
        self.copies = any(drafter.copies for drafter in self.drafters)
        self.has_trees = tree is not None or bool(self.members) or branches
        """Whether what is verified may branch."""
        self.has_redone = False
        """Whether rounds were given up. Before they are done again a drafter may hold the KV of the newest token, too,
        which it took in for the round that was to follow."""
        self._nobodys = Nobodys(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.bool_))
        self._all_keep_kv = bool(self.has_kv_cache.all())
        # without a draft the drafter is -1, and of merged ones the number behind all: nobody's KV, by the last place
        self._keeps_kv = np.append(self.has_kv_cache, False)
        self._longest = self._nobodys
        """What those that were asked for are the beginning of."""

    def nobodys(self, num_requests: int) -> Nobodys:
        """Columns for so many requests, shared by all who ask."""
        if num_requests != len(self._nobodys.zeros):
            if num_requests > len(self._longest.zeros):
                most = 2 * num_requests
                self._longest = Nobodys(np.zeros(most, np.int64), np.full(most, np.nan), np.zeros(most, np.bool_))
                for column in self._longest:
                    column.flags.writeable = False
            zeros, unknown, no = self._longest
            self._nobodys = Nobodys(zeros[:num_requests], unknown[:num_requests], no[:num_requests])
        return self._nobodys

    def drafts_by_lookup(self, drafter: IntArray, match_order: IntArray) -> BoolArray:
        """Which requests copy rather than ask a model, each of its own drafter; see `DrafterInfo`."""
        return match_order >= self._min_copied_order[drafter]

    def start_of_drafts(self, drafter: IntArray, by_lookup: BoolArray, newest: IntArray, held: IntArray) -> IntArray:
        """The first token that each drafter takes in, of `newest` known ones of which it holds the KV of `held`.

        Where nothing has a KV cache, nothing has to be taken in; else the newest token at least.
        """
        if self.has_redone:
            held = np.minimum(held, newest - 1)
        if self._all_keep_kv and not self.copies:
            return held
        return np.where(self.has_kv_cache[drafter] & ~by_lookup, held, newest)

    def keeps_kv(self, drafter: IntArray, num_steps: IntArray) -> BoolArray | None:
        """The requests that a model with a KV cache was run for, so many steps each; None = all, which is usual."""
        all_keep_kv = self._all_keep_kv and not self.members
        if all_keep_kv and np.count_nonzero(num_steps) == len(num_steps):
            return None
        return num_steps > 0 if all_keep_kv else (num_steps > 0) & self._keeps_kv[drafter]
