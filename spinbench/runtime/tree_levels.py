"""Token trees level by level: which requests go on, the nodes of a depth, and the drafts that come of them."""

from collections.abc import Sequence

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.runtime.draft import Draft
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.upload import upload


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
