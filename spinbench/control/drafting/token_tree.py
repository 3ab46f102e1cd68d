"""Token trees: drafts with several candidates for a position, verified together (SpecInfer, arXiv 2305.09781)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray


@dataclass(frozen=True, eq=False)
class TreeLayout:
    """How the nodes of one draft are numbered: the first branches at every depth first, then the others by depth.

    Node n has the KV slot that the n-th token behind the newest one would have. So the first branch lies where a chain
    would, and only KV of other branches has to be moved when it is accepted.
    """

    parent: IntArray
    """[nodes]: each node's parent, a lower number; -1 = the newest token."""
    levels: tuple[IntArray, ...]
    """Per depth its nodes: the children of the first node of the depth above first, the likeliest child first."""

    @property
    def is_chain(self) -> bool:
        """Whether no node has a sibling."""
        return len(self.parent) == len(self.levels)

    @cached_property
    def sees(self) -> BoolArray:
        """[nodes + 1, nodes + 1], the newest token first: at [i, j] whether j is an ancestor of i, or i itself."""
        sees = np.eye(len(self.parent) + 1, dtype=np.bool_)
        for level in self.levels:
            sees[level + 1] |= sees[self.parent[level] + 1]
        return sees

    @cached_property
    def by_level(self) -> IntArray:
        """[nodes]: where each node comes when they are listed depth by depth."""
        return np.argsort(np.concatenate(self.levels)) if self.levels else np.zeros(0, np.int64)


@dataclass(frozen=True)
class TreeShape:
    """A static expansion: every node at depth j - 1 gets the drafter's `branching[j - 1]` likeliest tokens as children.

    A draft of fewer tokens than `depth` is the upper part of the tree. A drafter's `step` j takes in the nodes at depth
    j and proposes those at depth j + 1; step 0 takes in known tokens.
    """

    branching: tuple[int, ...]
    """SpecInfer's is 1, 1, 3, 1, 1, 1, 1, 1. All 1 is a chain."""

    @property
    def depth(self) -> int:
        """Tokens on the longest path."""
        return len(self.branching)

    @cached_property
    def widths(self) -> IntArray:
        """[depth + 1]: nodes at each depth, the newest token included."""
        return np.cumprod([1, *self.branching]).astype(np.int64)

    def num_nodes(self, depth: IntArray) -> IntArray:
        """Drafted tokens of trees that are cut at these depths."""
        return np.cumsum(self.widths)[depth] - 1

    def layout(self, depth: int) -> TreeLayout:
        """The nodes of a tree that is cut at `depth`."""
        return self._layouts[depth]

    @cached_property
    def num_keys(self) -> IntArray:
        """[depth + 1, depth + 1]: slots behind the newest token that step j of a tree cut at depth d reads, at [d, j].

        Those up to the highest node that is filled: j in a chain.
        """
        filled = np.zeros((self.depth + 1, self.depth + 1), np.int64)
        for depth, layout in enumerate(self._layouts):
            highest = [0, *(int(level.max()) + 1 for level in layout.levels)]
            filled[depth, : depth + 1] = np.maximum.accumulate(highest)
        return filled

    @cached_property
    def step_sums(self) -> IntArray:
        """[3, depth + 1]: over the steps from 1 on of a tree cut at depth d, the sums of rows, keys and cells.

        Keys and cells behind the newest token only.
        """
        steps = np.arange(self.depth + 1)
        runs = (steps > 0) & (steps < steps[:, None])
        rows, keys = np.where(runs, self.widths, 0), np.where(runs, self.num_keys, 0)
        return np.stack((rows.sum(1), keys.sum(1), (rows * keys).sum(1)))

    @cached_property
    def _layouts(self) -> tuple[TreeLayout, ...]:
        return tuple(self._layout(depth) for depth in range(self.depth + 1))

    def _layout(self, depth: int) -> TreeLayout:
        parent = np.full(int(self.num_nodes(np.array(depth))), -1, np.int64)
        levels: list[IntArray] = []
        free = depth
        for level, width in enumerate(self.widths[1 : depth + 1].tolist()):
            nodes = np.concatenate(([level], np.arange(free, free + width - 1))).astype(np.int64)
            if levels:
                parent[nodes] = np.repeat(levels[-1], self.branching[level])
            levels.append(nodes)
            free += width - 1
        return TreeLayout(parent, tuple(levels))
