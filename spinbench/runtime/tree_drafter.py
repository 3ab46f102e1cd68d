"""Drafts token trees: in each step all nodes of a depth, of all requests, in one pass."""

from collections.abc import Sequence

import numpy as np
import torch

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.control.token_tree import TreeShape
from spinbench.runtime.draft import Draft
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler
from spinbench.runtime.tree_batch import TreeNodes


def draft_trees(
    runner: ModelRunner,
    sampler: Sampler,
    target_ids: torch.Tensor | None,
    job: DraftJob,
    tree: TreeShape,
    text: LiveText,
) -> tuple[list[Draft], FloatArray | None]:
    """A draft per request and, if asked for, the mean top-1 probability along its first branch.

    The known tokens in one pass, then a pass for each depth but the last; deeper trees outlast those that are cut.
    """
    device = runner.device
    order = np.argsort(-job.num_speculative_tokens, kind="stable")
    depths, spans = job.num_speculative_tokens[order], job.spans.only(order)
    seeds = text.seeds[spans.rows]
    tokens = torch.from_numpy(text.span_token_ids(spans)).to(device)
    logits = runner.packed(spans, tokens, torch.from_numpy(np.cumsum(spans.num_tokens) - 1).to(device))
    levels: list[torch.Tensor] = []
    confidences: list[torch.Tensor] = []
    for step in range(int(depths[0])):
        width = int(tree.widths[step])
        active = len(logits) // width
        of_row, positions = np.repeat(seeds[:active], width), np.repeat(spans.stop[:active] + step, width)
        children = sampler.draft_children(logits, of_row, positions, tree.branching[step], target_ids)
        levels.append(children.view(active, -1))
        if job.measure_confidence:
            first = logits[::width]
            confidences.append((first.max(-1).values - first.logsumexp(-1)).exp().float())
        going_on = int(np.count_nonzero(depths > step + 1))
        if going_on:
            nodes = _level(spans.only(np.arange(going_on)), depths[:going_on], step + 1, tree)
            token_ids = levels[-1][:going_on].reshape(-1)
            logits = runner.tree(nodes, token_ids, torch.arange(len(token_ids), device=device))
    drafts = _drafts(levels, depths, tree)
    back = np.argsort(order)
    means = None
    if job.measure_confidence:
        of_place = [
            float(torch.stack([step[place] for step in confidences[:depth]]).mean())
            for place, depth in enumerate(depths.tolist())
        ]
        means = np.array(of_place)[back]
    return [drafts[place] for place in back.tolist()], means


def _level(spans: TokenSpans, depths: IntArray, depth: int, tree: TreeShape) -> TreeNodes:
    """The nodes at `depth` of each request's tree, which is cut at `depths`; `spans` end with the newest tokens."""
    layouts = [tree.layout(cut) for cut in depths.tolist()]
    places = [layout.levels[depth - 1] + 1 for layout in layouts]
    num_read = (tree.num_keys[depths, depth] + 1).tolist()
    sees = [layout.sees[at, :read] for layout, at, read in zip(layouts, places, num_read, strict=True)]
    return TreeNodes(spans.rows, spans.stop - 1, places, [np.full(len(at), depth) for at in places], sees)


def _drafts(levels: Sequence[torch.Tensor], depths: IntArray, tree: TreeShape) -> list[Draft]:
    """A draft per request; `depths` do not rise, so that those of a depth come together."""
    drafts: list[Draft] = []
    for depth in dict.fromkeys(depths.tolist()):
        layout = tree.layout(depth)
        same = slice(len(drafts), len(drafts) + int(np.count_nonzero(depths == depth)))
        token_ids = torch.cat([level[same] for level in levels[:depth]], 1)
        token_ids = token_ids[:, torch.from_numpy(layout.by_level).to(token_ids.device)]
        parents = None if layout.is_chain else layout.parent
        drafts.extend(Draft(tokens, parents=parents) for tokens in token_ids)
    return drafts
