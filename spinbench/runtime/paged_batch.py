"""One forward pass over the KV pool: which rows belong to which request, and which keys they see."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.job import TokenSpans
from spinbench.runtime.kv_pool import KvPool
from spinbench.runtime.slot_table import SlotTable


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
class PaddedKeys:
    """Gather plan of the padded layout: every request takes `query_width` rows and `key_width` keys."""

    key_slots: torch.Tensor
    """[requests * key_width] int64, the null slot where padded."""
    mask: torch.Tensor
    """[requests, 1, share * query_width, key_width] additive mask."""
    query_width: int
    key_width: int


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """Metadata that travels through the model's forward to our attention, as one keyword argument."""

    pool: KvPool
    write_slots: torch.Tensor
    """[rows] int64: where each row's key and value go."""
    groups: tuple[RowGroup, ...]
    longest_context: int
    """Keys of the longest request."""
    padded: PaddedKeys | None = None


def causal_tail(num_rows: int, num_keys: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask [rows, keys] of the last `num_rows` positions of a context of `num_keys`."""
    mask = torch.zeros(num_rows, num_keys, dtype=dtype, device=device)
    mask[:, num_keys - num_rows :] = torch.full((num_rows, num_rows), float("-inf"), dtype=dtype, device=device).triu_(
        1
    )
    return mask


def packed_batch(spans: TokenSpans, slots: SlotTable, pool: KvPool, share: int) -> PagedBatch:
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
                key_slots=torch.from_numpy(slots.slots(row, 0, stop)).to(device) if first_slot < 0 else None,
                mask=mask,
            )
        )
        write_slots.append(slots.slots(row, start, stop))
        first += rows
    written = torch.from_numpy(np.concatenate(write_slots)).to(device)
    return PagedBatch(pool, written, tuple(groups), int(spans.stop.max()))


def padded_batch(spans: TokenSpans, slots: SlotTable, pool: KvPool, share: int, query_width: int) -> PagedBatch:
    """A rectangle of `query_width` rows and the longest context for every request; rows start at the left."""
    dtype, device = pool.keys.dtype, pool.keys.device
    key_width = int(spans.stop.max())
    write_slots = np.full((len(spans), query_width), pool.null_slot, np.int64)
    key_slots = np.full((len(spans), key_width), pool.null_slot, np.int64)
    # a padding row sees key 0, so that its softmax is finite; its output is thrown away
    mask = torch.full((len(spans), query_width, key_width), float("-inf"), dtype=dtype)
    mask[:, :, 0] = 0
    triples = zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True)
    for place, (row, start, stop) in enumerate(triples):
        write_slots[place, : stop - start] = slots.slots(row, start, stop)
        key_slots[place, :stop] = slots.slots(row, 0, stop)
        mask[place, : stop - start, :stop] = causal_tail(stop - start, stop, dtype, mask.device)
    padded = PaddedKeys(
        torch.from_numpy(key_slots.reshape(-1)).to(device),
        mask.repeat(1, share, 1)[:, None].to(device),
        query_width,
        key_width,
    )
    return PagedBatch(pool, torch.from_numpy(write_slots.reshape(-1)).to(device), (), key_width, padded)
