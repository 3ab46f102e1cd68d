"""Drafts token trees: in each step all nodes of a depth, of all requests, in one pass."""

from collections.abc import Sequence

import numpy as np
import torch

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.control.token_tree import TreeShape
from spinbench.runtime.confidence import DraftConfidence
from spinbench.runtime.draft import Draft
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler
from spinbench.runtime.tree_batch import TreeNodes
from spinbench.runtime.upload import upload


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
    order, depths, spans = deepest_first(job)
    seeds = text.seeds[spans.rows]
    tokens = upload(text.span_token_ids(spans), device)
    logits = runner.packed(spans, tokens, upload(np.cumsum(spans.num_tokens) - 1, device))
    levels: list[torch.Tensor] = []
    sure = DraftConfidence(len(order), None) if job.measure_confidence else None
    for step in range(int(depths[0])):
        width = int(tree.widths[step])
        active = len(logits) // width
        of_row, positions = np.repeat(seeds[:active], width), np.repeat(spans.stop[:active] + step, width)
        children = sampler.draft_children(logits, of_row, positions, tree.branching[step], target_ids)
        levels.append(children.view(active, -1))
        if sure is not None:
            sure.add(logits[::width], order[:active])
        going_on = int(np.count_nonzero(depths > step + 1))
        if going_on:
            nodes = level_nodes(spans.only(np.arange(going_on)), depths[:going_on], step + 1, tree)
            token_ids = levels[-1][:going_on].reshape(-1)
            logits = runner.tree(nodes, token_ids, torch.arange(len(token_ids), device=device))
    means = None if sure is None else sure.means(job.num_speculative_tokens)
    return in_order(levels, order, depths, tree), means


def deepest_first(job: DraftJob) -> tuple[IntArray, IntArray, TokenSpans]:
    """The job's requests by falling depth of their trees: places, depths, known tokens. Those that go on come first."""
    order = np.argsort(-job.num_speculative_tokens, kind="stable")
    return order, job.num_speculative_tokens[order], job.spans.only(order)


def level_nodes(spans: TokenSpans, depths: IntArray, depth: int, tree: TreeShape) -> TreeNodes:
    """The nodes at `depth` of each request's tree, which is cut at `depths`; `spans` end with the newest tokens."""
    layouts = [tree.layout(cut) for cut in depths.tolist()]
    places = [layout.levels[depth - 1] + 1 for layout in layouts]
    num_read = (tree.num_keys[depths, depth] + 1).tolist()
    sees = [layout.sees[at, :read] for layout, at, read in zip(layouts, places, num_read, strict=True)]
    return TreeNodes(spans.rows, spans.stop - 1, places, [np.full(len(at), depth) for at in places], sees)


def in_order(levels: Sequence[torch.Tensor], order: IntArray, depths: IntArray, tree: TreeShape) -> list[Draft]:
    """The drafts of a job in its own order, copied from the tokens of each depth.

    `levels` have at least a row for each request that goes so deep; `order` and `depths` are those of `deepest_first`.
    """
    drafts: list[Draft] = []
    for depth in dict.fromkeys(depths.tolist()):
        layout = tree.layout(depth)
        same = slice(len(drafts), len(drafts) + int(np.count_nonzero(depths == depth)))
        token_ids = torch.cat([level[same] for level in levels[:depth]], 1)
        token_ids = token_ids[:, upload(layout.by_level, token_ids.device)]
        parents = None if layout.is_chain else layout.parent
        drafts.extend(Draft(tokens, parents=parents) for tokens in token_ids)
    return [drafts[place] for place in np.argsort(order).tolist()]
