"""A draft of token trees over static tensors: every pass over the nodes of a depth, and every choice of children."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.job import TokenSpans
from spinbench.control.token_tree import TreeShape
from spinbench.runtime.confidence import top_probability
from spinbench.runtime.graphs.static_choice import RANDOM, StaticChoice, put_random, random_shape
from spinbench.runtime.graphs.static_ints import Int32Array, StaticInts
from spinbench.runtime.graphs.static_pass import PassCapacity, StaticPass
from spinbench.runtime.kernels.kernel_batch import TableSetting, causal_parts, tree_parts
from spinbench.runtime.kernels.kernel_rows import HostRows
from spinbench.runtime.model_runner import ModelRunner, span_positions
from spinbench.runtime.slot_table import Slots
from spinbench.runtime.tree_drafter import level_nodes


@dataclass(frozen=True, slots=True)
class TreeLoopCapacity:
    """What a draft of trees is captured for."""

    first: PassCapacity
    """The pass over the known tokens."""
    levels: tuple[PassCapacity, ...]
    """The pass over the nodes of each depth but the last."""
    batch: int
    """Requests, those that are nobody's included."""
    branching: tuple[int, ...]
    """Children of each node, by depth, down to the deepest tree's end."""
    with_confidence: bool


@dataclass(frozen=True, slots=True, eq=False)
class TreeLoopInputs:
    """A job's tables on the host, for a batch that is filled up."""

    first: HostRows
    first_positions: IntArray
    levels: tuple[HostRows, ...]
    level_positions: tuple[IntArray, ...]
    logit_rows: IntArray
    """[requests]: the row of each one's newest token."""
    random: Int32Array | None
    """[steps, requests, words] that children are drawn with; None where nothing is drawn."""

    def capacity(
        self, batch: int, branching: tuple[int, ...], with_confidence: bool, setting: TableSetting
    ) -> TreeLoopCapacity:
        """What these need."""
        levels = tuple(PassCapacity.of(rows, setting) for rows in self.levels)
        return TreeLoopCapacity(PassCapacity.of(self.first, setting), levels, batch, branching, with_confidence)


def tree_loop_inputs(
    known: TokenSpans,
    depths: IntArray,
    tree: TreeShape,
    batch: int,
    first_rows: int,
    slots: Slots,
    null_slot: int,
    setting: TableSetting,
    random: Int32Array | None,
) -> TreeLoopInputs:
    """Tables of trees behind the `known` tokens, cut at `depths`, which do not rise; rows of `batch` requests.

    Those of a depth that a request's tree does not have are nobody's, and so are those of requests that are not there.
    """
    share, size = setting.shape.heads_per_kv_head, setting.block_size
    levels: list[HostRows] = []
    positions: list[IntArray] = []
    for depth in range(1, int(depths[0])):
        going_on = np.arange(int(np.count_nonzero(depths > depth)))
        nodes = level_nodes(known.only(going_on), depths[going_on], depth, tree)
        num_rows = batch * int(tree.widths[depth])
        levels.append(tree_parts(nodes, slots, setting).filled_up(num_rows, null_slot, size, share))
        positions.append(nodes.positions)
    return TreeLoopInputs(
        first=causal_parts(known, slots, setting).filled_up(first_rows, null_slot, size, share),
        first_positions=span_positions(known),
        levels=tuple(levels),
        level_positions=tuple(positions),
        logit_rows=np.cumsum(known.num_tokens) - 1,
        random=random,
    )


class StaticTreeLoop:
    """The loop, in the sizes of a bucket."""

    def __init__(
        self, runner: ModelRunner, choice: StaticChoice, setting: TableSetting, size: TreeLoopCapacity
    ) -> None:
        self._runner, self._choice, self._size = runner, choice, size
        self._first = StaticPass("first", size.first)
        self._levels = [StaticPass(f"level{depth}", level) for depth, level in enumerate(size.levels, 1)]
        num_steps = len(size.branching)
        shapes = random_shape(choice, num_steps, size.batch) | {"logit_rows": (size.batch,)}
        for one in (self._first, *self._levels):
            shapes |= one.shapes()
        self._ints = StaticInts(shapes, runner.device)
        self._batches = [one.batch(self._ints, setting, runner.pool) for one in (self._first, *self._levels)]
        self._known = torch.zeros(size.first.num_rows, dtype=torch.int64, device=runner.device)
        self.levels: list[torch.Tensor] = [torch.empty(0)] * num_steps
        """Drafted target token ids of each depth, [requests, nodes], once it ran: always the same tensors where
        captured."""
        self.top_probability = torch.zeros(num_steps, size.batch, dtype=torch.float64, device=runner.device)
        """Of the first node of each depth, if asked for."""

    def fill(self, inputs: TreeLoopInputs, token_ids: torch.Tensor) -> None:
        """Write a job's inputs; `token_ids` [rows] are the known tokens."""
        ints = self._ints
        ints.begin()
        ints.put("logit_rows", inputs.logit_rows)
        put_random(ints, inputs.random)
        self._first.fill(ints, inputs.first, inputs.first_positions)
        for one, rows, positions in zip(self._levels, inputs.levels, inputs.level_positions, strict=True):
            one.fill(ints, rows, positions)
        ints.upload()
        self._known[: len(token_ids)].copy_(token_ids)
        self._known[len(token_ids) :].zero_()

    def run(self) -> None:
        """Every pass and choice of the draft."""
        ints, runner, size = self._ints, self._runner, self._size
        logits = runner.forward(
            self._known, ints["first.positions"].long(), self._batches[0], ints["logit_rows"].long()
        )
        for step, count in enumerate(size.branching):
            width = len(logits) // size.batch
            words = None
            if self._choice.num_words:
                # what is drawn at a depth is the same for all its nodes
                words = ints[RANDOM][step][:, None].expand(-1, width, -1).reshape(len(logits), -1)
            children = self._choice.children(logits, words, count)
            self.levels[step] = children.view(size.batch, -1)
            if size.with_confidence:
                self.top_probability[step].copy_(top_probability(logits[::width]))
            if step + 1 < len(size.branching):
                positions = ints[f"level{step + 1}.positions"].long()
                logits = runner.forward(children.reshape(-1), positions, self._batches[step + 1], None)
