"""One forward pass over the KV pool: which rows belong to which request, and which keys they see."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.plan import LayoutPlan
from spinbench.runtime.forward.tile import KeySlots, TiledRows, tiled_rows
from spinbench.runtime.kernels.table_attention import TableBatch
from spinbench.runtime.kv.kv_pool import KvPool
from spinbench.runtime.kv.slot_table import Slots, SlotTable
from spinbench.runtime.upload import upload


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Query rows `start` to `stop` of the packed batch, all of one request, and its keys."""

    start: int
    stop: int
    num_keys: int
    first_slot: int
    """Where the keys begin, if they lie in consecutive slots; -1 = use `key_slots`."""
    key_slots: torch.Tensor | None
    """[num_keys] int64, where the request's blocks are scattered."""
    mask: torch.Tensor | None
    """[share * rows, num_keys] additive causal mask, repeated for the heads that share a key head; None for a single
    row, or a whole context from its first token on."""


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """Metadata that travels through the model's forward to our attention, as one keyword argument."""

    pool: KvPool
    write_slots: torch.Tensor
    """[rows] int64: where each row's key and value go."""
    groups: tuple[RowGroup, ...]
    longest_context: int
    """Keys of the longest request."""
    tiled: TiledRows | None = None
    """Attention in rectangles; None = request by request, by `groups`."""
    tables: TableBatch | None = None
    """Attention by tables, in place of all this."""


def table_batch(tables: TableBatch, pool: KvPool, longest_context: int) -> PagedBatch:
    """A pass whose rows, keys and slots the tables say."""
    return PagedBatch(pool, tables.rows.write_slots, (), longest_context, tables=tables)


def causal_tail(num_rows: int, num_keys: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask [rows, keys] of the last `num_rows` positions of a context of `num_keys`."""
    mask = torch.zeros(num_rows, num_keys, dtype=dtype, device=device)
    mask[:, num_keys - num_rows :] = torch.full((num_rows, num_rows), float("-inf"), dtype=dtype, device=device).triu_(
        1
    )
    return mask


def packed_batch(spans: TokenSpans, slots: Slots, pool: KvPool, share: int) -> PagedBatch:
    """Rows of `spans` behind each other; each request's rows see its context and themselves.

    `share` is the number of query heads that use one key head.
    """
    dtype, device = pool.keys.dtype, pool.keys.device
    groups, write_slots = [], []
    first = 0
    for row, start, stop in zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True):
        rows = stop - start
        mask = None
        if rows > 1 and start > 0:
            mask = causal_tail(rows, stop, dtype, device).repeat(share, 1)
        first_slot = slots.first_slot(row)
        groups.append(
            RowGroup(
                start=first,
                stop=first + rows,
                num_keys=stop,
                first_slot=first_slot,
                key_slots=upload(slots.slots(row, 0, stop), device) if first_slot < 0 else None,
                mask=mask,
            )
        )
        write_slots.append(slots.slots(row, start, stop))
        first += rows
    written = upload(np.concatenate(write_slots), device)
    return PagedBatch(pool, written, tuple(groups), int(spans.stop.max()))


def tiled_batch(spans: TokenSpans, slots: SlotTable, pool: KvPool, share: int, plan: LayoutPlan) -> PagedBatch:
    """Rows of `spans` behind each other, or each padded to the plan's query width, attending in its rectangles."""
    key_slots = KeySlots(spans, slots, pool.null_slot)
    width = plan.query_width or int(spans.num_tokens.max())
    write_slots = key_slots.of(np.arange(len(spans)), spans.start, spans.num_tokens, width)
    if not plan.query_width:
        write_slots = write_slots[np.arange(width) < spans.num_tokens[:, None]]
    written = upload(write_slots.reshape(-1), pool.keys.device)
    tiled = tiled_rows(spans, key_slots, pool, share, plan)
    return PagedBatch(pool, written, (), int(spans.stop.max()), tiled)
