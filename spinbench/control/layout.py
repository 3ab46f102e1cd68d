"""Verification layouts: how the query rows and contexts of a micro-batch are laid out for the target's attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

LayoutKind = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True)
class LayoutPlan:
    """What is launched. A cell is one (query row x key) position; `useful + padded = launched`."""

    kind: LayoutKind
    query_tokens: tuple[int, ...]
    """Per request, its own query rows: the newest token and the drafted ones."""
    key_tokens: tuple[int, ...]
    """Per request, keys up to and including its last query row."""
    query_width: int
    """Rows that each request occupies; 0 = as many as it has (packed)."""
    useful_cells: int
    padded_cells: int


class VerificationLayout(Protocol):
    """Turns the lengths of a micro-batch into a plan."""

    def plan(self, query_tokens: Sequence[int], key_tokens: Sequence[int]) -> LayoutPlan:
        """Plan for requests with these numbers of query rows and keys."""
        ...


def _useful_cells(query_tokens: Sequence[int], key_tokens: Sequence[int]) -> int:
    return sum(q * k for q, k in zip(query_tokens, key_tokens, strict=True))


class PackedLayout:
    """Ragged rows behind each other, each attending to its own keys: nothing is padded."""

    def plan(self, query_tokens: Sequence[int], key_tokens: Sequence[int]) -> LayoutPlan:
        """Rows as they are."""
        useful = _useful_cells(query_tokens, key_tokens)
        return LayoutPlan("packed", tuple(query_tokens), tuple(key_tokens), 0, useful, 0)


class PaddedLayout:
    """Every request padded to the most query rows and the longest context, for kernels that need rectangles."""

    def plan(self, query_tokens: Sequence[int], key_tokens: Sequence[int]) -> LayoutPlan:
        """A rectangle over all requests."""
        useful = _useful_cells(query_tokens, key_tokens)
        launched = len(query_tokens) * max(query_tokens) * max(key_tokens)
        return LayoutPlan(
            "padded", tuple(query_tokens), tuple(key_tokens), max(query_tokens), useful, launched - useful
        )
