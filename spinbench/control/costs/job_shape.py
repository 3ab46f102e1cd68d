"""What a job makes a model compute: the forward passes, and how large each is. Spans and cost model count the same."""

from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, VerifyJob


class PassShape(NamedTuple):
    """One forward pass of one model."""

    num_requests: int
    """Requests, each with attention of its own."""
    num_tokens: int
    """Query rows that the linear layers run on, padding rows included."""
    num_cells: int
    """(query row x key) positions that attention computes, padding included."""
    num_keys: int
    """Keys that attention reads, over all requests, padding included."""
    num_head_rows: int
    """Rows for which logits are computed."""
    num_attention_calls: int = 1
    """Kernels that compute attention, in each layer."""
    num_merged_rows: int = 0
    """Query rows of pieces of requests, whose results are merged."""


def job_passes(job: Job) -> tuple[PassShape, ...]:
    """The passes of a job in their order; none for a draft that only looks up."""
    match job:
        case PrefillJob(spans):
            tokens, stop = spans.num_tokens, spans.stop
            return (PassShape(len(spans), int(tokens.sum()), int(tokens @ stop), int(stop.sum()), len(spans)),)
        case CatchUpJob(_, spans, num_scored):
            tokens, stop = spans.num_tokens, spans.stop
            head_rows = 1 if num_scored is None else int(num_scored.sum())
            return (PassShape(len(spans), int(tokens.sum()), int(tokens @ stop), int(stop.sum()), head_rows),)
        case VerifyJob(spans, layout):
            own = int(spans.num_tokens.sum())
            return (
                PassShape(
                    num_requests=len(spans),
                    num_tokens=len(spans) * layout.query_width or own,
                    num_cells=layout.useful_cells + layout.padded_cells,
                    num_keys=layout.key_tokens,
                    num_head_rows=own,
                    num_attention_calls=max(1, len(layout.rectangles)),
                    num_merged_rows=layout.merged_query_tokens,
                ),
            )
        case DraftJob():
            return _draft_passes(job)


def _draft_passes(job: DraftJob) -> tuple[PassShape, ...]:
    """The known tokens in one pass, then one row per request and further token; the last one is not fed back."""
    by_model = ~job.by_lookup
    lengths, stop = job.num_speculative_tokens[by_model], job.spans.stop[by_model]
    if not len(lengths):
        return ()
    known = stop - job.spans.start[by_model]
    first = PassShape(len(stop), int(known.sum()), int(known @ stop), int(stop.sum()), len(stop))
    passes = [first]
    if job.tree is not None:
        return (first, *_tree_passes(job.tree, lengths, stop))
    longest, shortest = int(lengths.max()), int(lengths.min())
    num_active, keys = len(stop), first.num_keys
    for step in range(1, longest):
        if step >= shortest:
            active = lengths > step
            num_active, keys = int(np.count_nonzero(active)), int(stop[active].sum()) + step * int(active.sum())
        else:
            keys += num_active
        passes.append(PassShape(num_active, num_active, keys, keys, num_active))
    return tuple(passes)


def _tree_passes(tree: TreeShape, lengths: IntArray, stop: IntArray) -> tuple[PassShape, ...]:
    """A pass for the nodes at each depth but the last."""
    passes = []
    for step in range(1, int(lengths.max())):
        active = lengths > step
        keys = int((stop[active] + tree.num_keys[lengths[active], step]).sum())
        count, width = int(np.count_nonzero(active)), int(tree.widths[step])
        passes.append(PassShape(count, count * width, width * keys, keys, count * width))
    return tuple(passes)
