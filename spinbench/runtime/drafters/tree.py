"""Drafts token trees: in each step all nodes of a depth, of all requests, in one pass."""

import numpy as np
import torch

from spinbench.control.arrays import FloatArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import DraftJob
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Draft
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.sampling.confidence import DraftConfidence
from spinbench.runtime.sampling.sampler import Sampler
from spinbench.runtime.tree_levels import deepest_first, in_order, level_nodes
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
