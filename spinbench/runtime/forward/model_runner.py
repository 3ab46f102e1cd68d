"""One model with its KV pool: token ids in, logits out."""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.plan import LayoutPlan
from spinbench.models.loaded_model import copy_sharing_weights
from spinbench.models.tensor_parallel import num_shares
from spinbench.runtime.forward.attention import use_paged_attention
from spinbench.runtime.forward.fused_norm import fuse_norms
from spinbench.runtime.forward.kernel_batch import TableSetting, causal_rows, on_device, tree_rows
from spinbench.runtime.forward.packed_linear import pack_linears
from spinbench.runtime.forward.paged_batch import PagedBatch, packed_batch, table_batch, tiled_batch
from spinbench.runtime.forward.tree_batch import TreeNodes, tree_batch
from spinbench.runtime.kernels.kernel_rows import HostRows
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kv.kv_pool import KvPool, KvShape
from spinbench.runtime.kv.slot_table import Slots, SlotTable
from spinbench.runtime.token_tree import KvMoves, SlotMoves
from spinbench.runtime.upload import upload

Result = TypeVar("Result")


class ModelRunner:
    """Runs batches of token spans through a Hugging Face causal LM, packed or in the rectangles of a layout plan."""

    def __init__(self, model: PreTrainedModel, slots: SlotTable, attention: TableAttention | None = None) -> None:
        """`attention` None = torch's; it does the rectangles of whole contexts in any case, which are its own."""
        self._model = copy_sharing_weights(model)
        use_paged_attention(self._model)
        pack_linears(self._model)
        fuse_norms(self._model)
        self.device = model.device
        shape = KvShape.of(model.config).share(num_shares(model.config))
        self.share = shape.heads_per_kv_head
        """Query heads that use one key head."""
        self.pool = KvPool(shape, slots.num_slots, model.dtype, self.device)
        self._slots = slots
        self.tables = None if attention is None else TableSetting(attention, shape, slots.block_size)
        window = getattr(model.config.get_text_config(), "sliding_window", None)
        self.has_window = isinstance(window, int)
        """Whether the model may look back no further than a window."""
        self.forward_s = 0.0
        """Host time spent inside the model's forward so far."""

    def packed(
        self, spans: TokenSpans, token_ids: torch.Tensor, logit_rows: torch.Tensor, slots: Slots | None = None
    ) -> torch.Tensor:
        """Run `token_ids` [rows], the spans' tokens behind each other; logits [len(logit_rows), vocab].

        `slots` where the requests may have gone from the table meanwhile.
        """
        return self.run(token_ids, *self.packed_pass(spans, slots), logit_rows)

    def packed_pass(self, spans: TokenSpans, slots: Slots | None = None) -> tuple[IntArray, PagedBatch]:
        """Positions [rows] and attention of a packed pass."""
        if self.tables is not None:
            rows = causal_rows(spans, slots or self._slots, self.tables)
            batch = self._table_batch(rows, self.tables, int(spans.stop.max()))
        else:
            batch = packed_batch(spans, slots or self._slots, self.pool, self.share)
        return span_positions(spans), batch

    def tiled(
        self, spans: TokenSpans, token_ids: torch.Tensor, plan: LayoutPlan, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """The same with attention in the plan's rectangles.

        With a query width in the plan, `token_ids` is [len(spans) * query_width], each span's at the left of its row.
        """
        return self.run(token_ids, *self.tiled_pass(spans, plan), logit_rows)

    def tiled_pass(self, spans: TokenSpans, plan: LayoutPlan) -> tuple[IntArray, PagedBatch]:
        """Positions [rows] and attention of a pass in a plan's rectangles."""
        positions = span_positions(spans)
        if plan.query_width:
            # a padding row repeats the position of the last real one: any valid position does
            column = np.arange(plan.query_width)
            positions = np.minimum(column + spans.start[:, None], spans.stop[:, None] - 1).reshape(-1)
        if self.tables is not None and plan.kind == "decomposed":
            rows = causal_rows(spans, self._slots, self.tables, plan)
            batch = self._table_batch(rows, self.tables, int(spans.stop.max()))
        else:
            batch = tiled_batch(spans, self._slots, self.pool, self.share, plan)
        return positions, batch

    def tree(self, nodes: TreeNodes, token_ids: torch.Tensor, logit_rows: torch.Tensor) -> torch.Tensor:
        """Run nodes of token trees, each of which sees its request's context and its own ancestors.

        `token_ids` [rows] are those of all requests behind each other; logits [len(logit_rows), vocab].
        """
        if self.tables is not None:
            rows = tree_rows(nodes, self._slots, self.tables)
            batch = self._table_batch(rows, self.tables, int(nodes.positions.max()) + 1)
        else:
            batch = tree_batch(nodes, self._slots, self.pool, self.share)
        return self.run(token_ids, nodes.positions, batch, logit_rows)

    def _table_batch(self, rows: HostRows, setting: TableSetting, longest_context: int) -> PagedBatch:
        return table_batch(on_device(rows, setting, self.device), self.pool, longest_context)

    def move_kv(self, moves: SlotMoves) -> None:
        """Move KV of tokens that were accepted to where it belongs."""
        self.pool.move(upload(moves.source, self.device), upload(moves.final, self.device))

    def keep_path(self, moves: KvMoves) -> None:
        """The same for requests that have their slots still."""
        if len(moves.rows):
            self.move_kv(moves.within(self._slots))

    def run(
        self, token_ids: torch.Tensor, positions: IntArray, batch: PagedBatch, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """Run rows whose keys `batch` says, `token_ids` and `positions` [rows]; logits [len(logit_rows), vocab]."""
        return self.count(lambda: self.forward(token_ids, upload(positions, self.device), batch, logit_rows))

    def count(self, run: Callable[[], Result]) -> Result:
        """What `run`, a forward or the replay of some, gives; its host time is added to `forward_s`."""
        start_s = time.perf_counter()
        result = run()
        self.forward_s += time.perf_counter() - start_s
        return result

    def forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, batch: PagedBatch, logit_rows: torch.Tensor | None
    ) -> torch.Tensor:
        """The same, all on the device and untimed; `logit_rows` None = all."""
        return self._model(
            input_ids=token_ids[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=0 if logit_rows is None else logit_rows,
            paged=batch,
        ).logits[0]


def span_positions(spans: TokenSpans) -> IntArray:
    """Of the spans' tokens behind each other, [rows]."""
    lengths = spans.num_tokens
    offsets = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(spans.start - offsets, lengths)
