"""One forward pass over the KV pool: which rows belong to which request, and which keys they see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.job import TokenSpan
from spinbench.runtime.kv_pool import KvPool


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


def packed_batch(spans: Sequence[TokenSpan], pool: KvPool, share: int) -> PagedBatch:
    """Rows of `spans` behind each other; each request's rows see its context and themselves.

    `share` is the number of query heads that use one key head.
    """
    dtype, device = pool.keys.dtype, pool.keys.device
    groups = []
    start = 0
    for span in spans:
        rows = span.num_tokens
        state = span.state
        contiguous = state.slots_contiguous
        mask = None
        if rows > 1 and span.start > 0:
            mask = causal_tail(rows, span.stop, dtype, device).repeat(share, 1)
        groups.append(
            RowGroup(
                start=start,
                stop=start + rows,
                num_keys=span.stop,
                first_slot=int(state.slots(0, 1)[0]) if contiguous else -1,
                key_slots=None if contiguous else torch.from_numpy(state.slots(0, span.stop)).to(device),
                mask=mask,
            )
        )
        start += rows
    slots = np.concatenate([span.state.slots(span.start, span.stop) for span in spans])
    return PagedBatch(pool, torch.from_numpy(slots).to(device), tuple(groups), max(span.stop for span in spans))


def padded_batch(spans: Sequence[TokenSpan], pool: KvPool, share: int, query_width: int) -> PagedBatch:
    """A rectangle of `query_width` rows and the longest context for every request; rows start at the left."""
    dtype, device = pool.keys.dtype, pool.keys.device
    key_width = max(span.stop for span in spans)
    write_slots = np.full((len(spans), query_width), pool.null_slot, np.int64)
    key_slots = np.full((len(spans), key_width), pool.null_slot, np.int64)
    # a padding row sees key 0, so that its softmax is finite; its output is thrown away
    mask = torch.full((len(spans), query_width, key_width), float("-inf"), dtype=dtype)
    mask[:, :, 0] = 0
    for row, span in enumerate(spans):
        rows = span.num_tokens
        write_slots[row, :rows] = span.state.slots(span.start, span.stop)
        key_slots[row, : span.stop] = span.state.slots(0, span.stop)
        mask[row, :rows, : span.stop] = causal_tail(rows, span.stop, dtype, mask.device)
    padded = PaddedKeys(
        torch.from_numpy(key_slots.reshape(-1)).to(device),
        mask.repeat(1, share, 1)[:, None].to(device),
        query_width,
        key_width,
    )
    return PagedBatch(pool, torch.from_numpy(write_slots.reshape(-1)).to(device), (), key_width, padded)
