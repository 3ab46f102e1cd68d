"""A captured draft of token trees: every pass over the nodes of a depth, and every choice of children."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import TokenSpans
from spinbench.runtime.forward.kernel_batch import TableSetting, causal_parts, tree_parts
from spinbench.runtime.forward.model_runner import ModelRunner, span_positions
from spinbench.runtime.graphs.draft_passes import DraftInputs, DraftPasses
from spinbench.runtime.graphs.static_choice import StaticChoice
from spinbench.runtime.graphs.static_ints import Int32Array
from spinbench.runtime.graphs.static_pass import PassCapacity
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.sampling.confidence import top_probability
from spinbench.runtime.tree_levels import level_nodes


@dataclass(frozen=True, slots=True)
class TreeLoopCapacity:
    """What a draft of trees is captured for."""

    passes: tuple[PassCapacity, ...]
    """Over the known tokens, then over the nodes of each depth but the last."""
    batch: int
    """Requests, those that are nobody's included."""
    branching: tuple[int, ...]
    """Children of each node, by depth, down to the deepest tree's end."""
    with_confidence: bool

    @classmethod
    def of(
        cls, inputs: DraftInputs, batch: int, tree: TreeShape, with_confidence: bool, setting: TableSetting
    ) -> "TreeLoopCapacity":
        """What these inputs need."""
        passes = tuple(PassCapacity.of(rows, setting) for rows in inputs.passes)
        return cls(passes, batch, tree.branching[: len(passes)], with_confidence)


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
) -> DraftInputs:
    """Tables of trees behind the `known` tokens, cut at `depths`, which do not rise; rows of `batch` requests.

    Those of a depth that a request's tree does not have are nobody's, and so are those of requests that are not there.
    """
    first = causal_parts(known, slots, setting).filled_up(first_rows, null_slot, setting)
    passes, positions = [first], [span_positions(known)]
    for depth in range(1, int(depths[0])):
        going_on = np.arange(int(np.count_nonzero(depths > depth)))
        nodes = level_nodes(known.only(going_on), depths[going_on], depth, tree)
        num_rows = batch * int(tree.widths[depth])
        passes.append(tree_parts(nodes, slots, setting).filled_up(num_rows, null_slot, setting))
        positions.append(nodes.positions)
    return DraftInputs(tuple(passes), tuple(positions), np.cumsum(known.num_tokens) - 1, random)


class StaticTreeLoop:
    """The loop, in the sizes of a bucket."""

    def __init__(
        self, runner: ModelRunner, choice: StaticChoice, setting: TableSetting, size: TreeLoopCapacity
    ) -> None:
        self._choice, self._size = choice, size
        self.passes = DraftPasses(runner, choice, setting, size.passes, size.batch, share_blocks=False)
        num_steps = len(size.branching)
        self.levels: list[torch.Tensor] = [torch.empty(0)] * num_steps
        """Drafted target token ids of each depth, [requests, nodes], once it ran: always the same tensors where
        captured."""
        self.top_probability = torch.zeros(num_steps, size.batch, dtype=torch.float64, device=runner.device)
        """Of the first node of each depth, if asked for."""

    def run(self) -> None:
        """Every pass and choice of the draft."""
        passes, size = self.passes, self._size
        logits = passes.first_logits()
        for step, count in enumerate(size.branching):
            width, words = len(logits) // size.batch, passes.words(step)
            if words is not None:
                # what is drawn at a depth is the same for all its nodes
                words = words[:, None].expand(-1, width, -1).reshape(len(logits), -1)
            children = self._choice.children(logits, words, count)
            self.levels[step] = children.view(size.batch, -1)
            if size.with_confidence:
                self.top_probability[step].copy_(top_probability(logits[::width]))
            if step + 1 < len(size.branching):
                logits = passes.further_logits(step + 1, children.reshape(-1))
