"""Verification layouts: how the query rows and contexts of a micro-batch are laid out for the target's attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleAttention
from spinbench.control.layout.plan import LayoutKind, LayoutPlan


class VerificationLayout(Protocol):
    """Turns the lengths of a micro-batch into a plan."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """Plan for requests with these query rows (newest and drafted tokens) and keys (up to the last of them)."""
        ...


@dataclass(frozen=True, slots=True)
class LayoutSetting:
    """What a layout may know of the run."""

    attention: Mapping[LayoutKind, RectangleAttention]
    """What rectangles cost the target, by layout, where a profile says so; only a layout that searches asks."""
