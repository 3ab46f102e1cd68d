"""One model with its KV pool: token ids in, logits out."""

import time

import numpy as np
import torch
from transformers import PreTrainedModel

from spinbench.control.arrays import IntArray
from spinbench.control.job import TokenSpans
from spinbench.control.layout import LayoutPlan
from spinbench.runtime.attention import use_paged_attention
from spinbench.runtime.kv_pool import KvPool, KvShape
from spinbench.runtime.packed_linear import copy_sharing_weights, pack_linears
from spinbench.runtime.paged_batch import PagedBatch, packed_batch, tiled_batch
from spinbench.runtime.slot_table import Slots, SlotTable
from spinbench.runtime.token_tree import KvMoves, SlotMoves
from spinbench.runtime.tree_batch import TreeNodes, tree_batch


class ModelRunner:
    """Runs batches of token spans through a Hugging Face causal LM, packed or in the rectangles of a layout plan."""

    def __init__(self, model: PreTrainedModel, slots: SlotTable) -> None:
        self._model = copy_sharing_weights(model)
        use_paged_attention(self._model)
        pack_linears(self._model)
        self.device = model.device
        shape = KvShape.of(model.config)
        self.share = shape.heads_per_kv_head
        """Query heads that use one key head."""
        self.pool = KvPool(shape, slots.num_slots, model.dtype, self.device)
        self._slots = slots
        self.forward_s = 0.0
        """Host time spent inside the model's forward so far."""

    def packed(
        self, spans: TokenSpans, token_ids: torch.Tensor, logit_rows: torch.Tensor, slots: Slots | None = None
    ) -> torch.Tensor:
        """Run `token_ids` [rows], the spans' tokens behind each other; logits [len(logit_rows), vocab].

        `slots` where the requests may have gone from the table meanwhile.
        """
        batch = packed_batch(spans, slots or self._slots, self.pool, self.share)
        return self.run(token_ids, _positions(spans), batch, logit_rows)

    def tiled(
        self, spans: TokenSpans, token_ids: torch.Tensor, plan: LayoutPlan, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """The same with attention in the plan's rectangles.

        With a query width in the plan, `token_ids` is [len(spans) * query_width], each span's at the left of its row.
        """
        positions = _positions(spans)
        if plan.query_width:
            # a padding row repeats the position of the last real one: any valid position does
            column = np.arange(plan.query_width)
            positions = np.minimum(column + spans.start[:, None], spans.stop[:, None] - 1).reshape(-1)
        batch = tiled_batch(spans, self._slots, self.pool, self.share, plan)
        return self.run(token_ids, positions, batch, logit_rows)

    def tree(self, nodes: TreeNodes, token_ids: torch.Tensor, logit_rows: torch.Tensor) -> torch.Tensor:
        """Run nodes of token trees, each of which sees its request's context and its own ancestors.

        `token_ids` [rows] are those of all requests behind each other; logits [len(logit_rows), vocab].
        """
        batch = tree_batch(nodes, self._slots, self.pool, self.share)
        return self.run(token_ids, nodes.positions, batch, logit_rows)

    def move_kv(self, moves: SlotMoves) -> None:
        """Move KV of tokens that were accepted to where it belongs."""
        self.pool.move(torch.from_numpy(moves.source).to(self.device), torch.from_numpy(moves.final).to(self.device))

    def keep_path(self, moves: KvMoves) -> None:
        """The same for requests that have their slots still."""
        if len(moves.rows):
            self.move_kv(moves.within(self._slots))

    def run(
        self, token_ids: torch.Tensor, positions: IntArray, batch: PagedBatch, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """Run rows whose keys `batch` says, `token_ids` and `positions` [rows]; logits [len(logit_rows), vocab]."""
        start_s = time.perf_counter()
        logits = self._model(
            input_ids=token_ids[None],
            position_ids=torch.from_numpy(positions[None]).to(self.device),
            use_cache=False,
            logits_to_keep=logit_rows,
            paged=batch,
        ).logits[0]
        self.forward_s += time.perf_counter() - start_s
        return logits


def _positions(spans: TokenSpans) -> IntArray:
    """Of the spans' tokens behind each other, [rows]."""
    lengths = spans.num_tokens
    offsets = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(spans.start - offsets, lengths)
