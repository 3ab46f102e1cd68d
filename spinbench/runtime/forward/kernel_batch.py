"""The tables of a pass, made from its spans, plan or trees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.plan import LayoutPlan
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.kernels.kernel_rows import (
    HostRows,
    Int32Array,
    Pieces,
    RowKeys,
    host_rows,
    piece_width,
    tile_size,
    to_device,
)
from spinbench.runtime.kernels.table_attention import TableAttention, TableBatch
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.kv.slot_table import Slots

PIECE_STEP_KEYS = 64
"""Pieces that fill a device are multiples of this: whole steps of the kernel."""


@dataclass(frozen=True, slots=True)
class TableSetting:
    """What the tables of a model depend on besides the pass."""

    attention: TableAttention
    shape: KvShape
    block_size: int
    """Tokens of a block of the pool."""


@dataclass(frozen=True, slots=True, eq=False)
class RowParts:
    """What the tables of a pass are made from."""

    keys: RowKeys
    pieces: Pieces
    write_slots: IntArray
    blocks: Int32Array

    def rows(self, share: int) -> HostRows:
        """The tables."""
        return host_rows(self.keys, self.pieces, self.write_slots, self.blocks, share)

    def filled_up(self, num_rows: int, null_slot: int, setting: TableSetting) -> HostRows:
        """The tables with rows behind them that are nobody's, `num_rows` in all.

        They belong to one more request, whose only key is the null slot, where they are written.
        """
        keys, pieces, share = self.keys, self.pieces, setting.shape.heads_per_kv_head
        count, more = len(keys.num_rows), num_rows - int(keys.num_rows.sum())
        null_blocks = np.full((1, self.blocks.shape[1]), null_slot // setting.block_size, np.int32)
        return host_rows(
            RowKeys(
                np.append(keys.num_rows, more),
                np.append(keys.num_keys, 1),
                np.append(keys.limits, np.ones(more, np.int64)),
                None if keys.bits is None else np.pad(keys.bits, ((0, more), (0, 0))),
            ),
            Pieces(np.append(pieces.places, count), np.append(pieces.first_key, 0), np.append(pieces.stop_key, 1)),
            np.append(self.write_slots, np.full(more, null_slot)),
            np.concatenate((self.blocks, null_blocks)),
            share,
            tile_size(int(keys.num_rows.max()), share),
        )


def causal_rows(spans: TokenSpans, slots: Slots, setting: TableSetting, plan: LayoutPlan | None = None) -> HostRows:
    """Rows of `spans` behind each other, cut as the plan says; without one, as the device needs it."""
    return causal_parts(spans, slots, setting, plan).rows(setting.shape.heads_per_kv_head)


def causal_parts(
    spans: TokenSpans,
    slots: Slots,
    setting: TableSetting,
    plan: LayoutPlan | None = None,
    blocks: Int32Array | None = None,
) -> RowParts:
    """The same, to be made tables of; `blocks` where they are known, of more keys if need be."""
    keys = RowKeys.causal(spans.start, spans.stop)
    if plan is None:
        pieces = filling(keys, setting)
    else:
        parts = [(part.places, part.first_key, part.num_keys) for part in plan.rectangles]
        pieces = Pieces.sorted_by_place(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    written = [
        slots.slots(row, start, stop)
        for row, start, stop in zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True)
    ]
    if blocks is None:
        blocks = block_table(spans.rows.tolist(), spans.stop, slots, setting.block_size)
    return RowParts(keys, pieces, np.concatenate(written), blocks)


def tree_rows(nodes: TreeNodes, slots: Slots, setting: TableSetting) -> HostRows:
    """Nodes of token trees: each sees its request's context and, in its tree, what `nodes.sees` says."""
    return tree_parts(nodes, slots, setting).rows(setting.shape.heads_per_kv_head)


def tree_parts(nodes: TreeNodes, slots: Slots, setting: TableSetting) -> RowParts:
    """The same, to be made tables of."""
    keys = RowKeys.of_trees(nodes.newest, nodes.sees)
    written = [
        slots.slots(row, newest, newest + sees.shape[1])[places]
        for row, newest, places, sees in zip(
            nodes.rows.tolist(), nodes.newest.tolist(), nodes.places, nodes.sees, strict=True
        )
    ]
    blocks = block_table(nodes.rows.tolist(), keys.num_keys, slots, setting.block_size)
    return RowParts(keys, filling(keys, setting), np.concatenate(written), blocks)


def on_device(rows: HostRows, setting: TableSetting, device: torch.device) -> TableBatch:
    """Ready for a pass."""
    return TableBatch(to_device(rows, device), setting.attention, setting.block_size)


def block_table(rows: Sequence[int], num_keys: IntArray, slots: Slots, block_size: int) -> Int32Array:
    """Blocks of the requests' contexts in order, [requests, most blocks]; 0 behind a request's last one."""
    counts = -(-num_keys // block_size)
    table = np.zeros((len(rows), int(counts.max())), np.int32)
    for place, (row, stop, count) in enumerate(zip(rows, num_keys.tolist(), counts.tolist(), strict=True)):
        table[place, :count] = slots.slots(row, 0, stop)[::block_size] // block_size
    return table


def filling(keys: RowKeys, setting: TableSetting) -> Pieces:
    """Pieces with which the device has enough to do."""
    shape, wanted = setting.shape, setting.attention.wanted_programs
    width = piece_width(keys, shape.num_kv_heads, shape.heads_per_kv_head, wanted, PIECE_STEP_KEYS)
    return Pieces.of_width(keys.num_keys, width) if width else Pieces.whole(keys.num_keys)
