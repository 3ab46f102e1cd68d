"""Verification layouts: how the query rows and contexts of a micro-batch are laid out for the target's attention."""

from dataclasses import dataclass
from typing import Literal, Protocol

from spinbench.control.arrays import IntArray

LayoutKind = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True)
class LayoutPlan:
    """What is launched. A cell is one (query row x key) position; `useful + padded = launched`."""

    kind: LayoutKind
    query_width: int
    """Rows that each request occupies; 0 = as many as it has (packed)."""
    useful_cells: int
    padded_cells: int


class VerificationLayout(Protocol):
    """Turns the lengths of a micro-batch into a plan."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """Plan for requests with these query rows (newest and drafted tokens) and keys (up to the last of them)."""
        ...


class PackedLayout:
    """Ragged rows behind each other, each attending to its own keys: nothing is padded."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """Rows as they are."""
        return LayoutPlan("packed", 0, int(query_tokens @ key_tokens), 0)


class PaddedLayout:
    """Every request padded to the most query rows and the longest context, for kernels that need rectangles."""

    def plan(self, query_tokens: IntArray, key_tokens: IntArray) -> LayoutPlan:
        """One rectangle."""
        width = int(query_tokens.max())
        useful = int(query_tokens @ key_tokens)
        return LayoutPlan("padded", width, useful, len(query_tokens) * width * int(key_tokens.max()) - useful)
