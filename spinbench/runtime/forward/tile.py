"""The rectangles of a layout plan as tensors: which query rows, which slots of the KV pool, who sees whom."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.memory import MERGED_TOGETHER
from spinbench.control.layout.plan import LayoutPlan, Rectangle
from spinbench.runtime.kv.kv_pool import KvPool
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.upload import upload


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One rectangle, a row for each piece."""

    num_pieces: int
    query_width: int
    key_width: int
    query_rows: torch.Tensor | None
    """[pieces * query_width] rows of the batch, a request's last one again where it has fewer; None = the whole batch
    as it is."""
    own: torch.Tensor | None
    """Places in `query_rows` that are no such repetition; None = all."""
    key_slots: torch.Tensor | slice
    """[pieces * key_width] int64, the null slot where padded; a slice where they follow each other, read in place."""
    mask: torch.Tensor | None
    """[pieces, 1, share * query_width, key_width] additive; None where every row sees every key."""
    sees_nothing: torch.Tensor | None
    """[pieces, 1, share * query_width] bool, where a piece begins behind the row's own position; None = nowhere."""


@dataclass(frozen=True, slots=True, eq=False)
class MergeGroup:
    """Some requests whose pieces are merged together."""

    requests: slice
    """Places in the batch."""
    pieces: slice
    """Their pieces, in the order of `MergePlan`."""
    indicator: torch.Tensor
    """[1, requests, pieces] 0 where a piece is of a request, else minus infinity."""


@dataclass(frozen=True, slots=True, eq=False)
class MergePlan:
    """How results of pieces become results of requests."""

    order: torch.Tensor | None
    """[pieces] sorts the pieces of all tiles by their requests; None = they are."""
    groups: tuple[MergeGroup, ...]
    query_width: int
    own: torch.Tensor | None
    """Places in [requests * query_width] that are real query rows; None = all."""


@dataclass(frozen=True, slots=True, eq=False)
class TiledRows:
    """What attention needs to run a plan's rectangles."""

    tiles: tuple[Tile, ...]
    merge: MergePlan | None
    gathered: torch.Tensor
    """[2, most keys of a tile, kv_heads, head_dim]: where keys and values are copied to, the same for every layer."""


class KeySlots:
    """Pool slots of whole contexts of a batch, looked up for all pieces of a rectangle at once."""

    def __init__(self, spans: TokenSpans, slots: SlotTable, null_slot: int) -> None:
        pairs = zip(spans.rows.tolist(), spans.stop.tolist(), strict=True)
        self._all = np.concatenate([slots.slots(row, 0, stop) for row, stop in pairs])
        self._begin = np.cumsum(spans.stop) - spans.stop
        self._null_slot = null_slot

    def of(self, places: IntArray, first_key: IntArray, num_keys: IntArray, width: int) -> IntArray:
        """Slots of some tokens of these requests, [pieces, width], the null slot behind `num_keys`."""
        column = np.arange(width)
        index = (self._begin[places] + first_key)[:, None] + np.minimum(column, num_keys[:, None] - 1)
        return np.where(column < num_keys[:, None], self._all[index], self._null_slot)


def tiled_rows(spans: TokenSpans, key_slots: KeySlots, pool: KvPool, share: int, plan: LayoutPlan) -> TiledRows:
    """The tensors of a plan for these requests; `share` is the number of query heads that use one key head."""
    begin = np.cumsum(spans.num_tokens) - spans.num_tokens
    if plan.query_width:
        begin = np.arange(len(spans)) * plan.query_width
    tiles = [_tile(rectangle, spans, begin, key_slots, pool, share, plan) for rectangle in plan.rectangles]
    size = (2, plan.peak_key_tokens, *pool.keys.shape[2:])
    gathered = torch.empty(size, dtype=pool.keys.dtype, device=pool.keys.device)
    merge = _merge(plan, spans, pool.keys.dtype, pool.keys.device) if plan.merged_query_tokens else None
    return TiledRows(tuple(tiles), merge, gathered)


def _tile(
    rectangle: Rectangle,
    spans: TokenSpans,
    begin: IntArray,
    key_slots: KeySlots,
    pool: KvPool,
    share: int,
    plan: LayoutPlan,
) -> Tile:
    """`begin` [requests]: where each request's rows begin in the batch."""
    device, dtype = pool.keys.device, pool.keys.dtype
    places, rows, keys = rectangle.places, rectangle.query_width, rectangle.key_width
    slots = key_slots.of(places, rectangle.first_key, rectangle.num_keys, keys)
    in_place = len(places) == 1 and bool((np.diff(slots[0]) == 1).all())
    own = np.arange(rows) < spans.num_tokens[places, None]
    column = np.minimum(np.arange(rows), spans.num_tokens[places, None] - 1)
    sees_up_to = spans.start[places, None] + column - rectangle.first_key[:, None]  # [pieces, rows], in the piece
    num_seen = np.minimum(sees_up_to + 1, rectangle.num_keys[:, None])
    mask = blind = None
    if (num_seen < keys).any():
        seen = upload(num_seen, device)
        hidden = torch.arange(keys, device=device) >= seen[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
        mask = mask.repeat(1, share, 1)[:, None]
        if (num_seen < 1).any():
            blind = (seen < 1).repeat(1, share)[:, None]
    return Tile(
        num_pieces=len(places),
        query_width=rows,
        key_width=keys,
        query_rows=None if plan.query_width else _index(begin[places, None] + column, device),
        own=_own_places(own, device),
        key_slots=slice(int(slots[0, 0]), int(slots[0, 0]) + keys) if in_place else _index(slots, device),
        mask=mask,
        sees_nothing=blind,
    )


def _merge(plan: LayoutPlan, spans: TokenSpans, dtype: torch.dtype, device: torch.device) -> MergePlan:
    places = np.concatenate([rectangle.places for rectangle in plan.rectangles])
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=len(spans)))
    groups = []
    for first in range(0, len(spans), MERGED_TOGETHER):
        stop = min(first + MERGED_TOGETHER, len(spans))
        pieces = slice(int(ends[first - 1]) if first else 0, int(ends[stop - 1]))
        elsewhere = places[order[pieces]] != np.arange(first, stop)[:, None]
        indicator = torch.zeros(elsewhere.shape, dtype=torch.promote_types(dtype, torch.float32), device=device)
        indicator.masked_fill_(upload(elsewhere, device), float("-inf"))
        groups.append(MergeGroup(slice(first, stop), pieces, indicator[None]))
    width = plan.rectangles[0].query_width
    return MergePlan(
        order=None if len(plan.rectangles) == 1 else _index(order, device),
        groups=tuple(groups),
        query_width=width,
        own=_own_places(np.arange(width) < spans.num_tokens[:, None], device),
    )


def _own_places(own: BoolArray, device: torch.device) -> torch.Tensor | None:
    return None if own.all() else _index(np.flatnonzero(own), device)


def _index(values: IntArray, device: torch.device) -> torch.Tensor:
    return upload(values.reshape(-1), device)
