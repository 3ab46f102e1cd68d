"""One forward pass over nodes of token trees: a packed batch under a mask of ancestors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.runtime.forward.paged_batch import PagedBatch, RowGroup
from spinbench.runtime.kv.kv_pool import KvPool
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.upload import upload


@dataclass(frozen=True, slots=True, eq=False)
class TreeNodes:
    """Nodes that run together. In a request's tree place 0 is its newest token, and n + 1 the node of number n.

    Place p has the KV slot p behind the newest token's, and as its position the newest one's plus its depth.
    """

    rows: IntArray
    """[requests]"""
    newest: IntArray
    """[requests]: position of the newest token."""
    places: Sequence[IntArray]
    """Per request, the places that are run."""
    depth: Sequence[IntArray]
    """Their depth below the newest token."""
    sees: Sequence[BoolArray]
    """[places, read places] per request: the ancestors of each, itself included; the context is seen by all."""

    @property
    def positions(self) -> IntArray:
        """Of all requests behind each other, int [rows]."""
        return np.concatenate([newest + depth for newest, depth in zip(self.newest.tolist(), self.depth, strict=True)])


def tree_batch(nodes: TreeNodes, slots: SlotTable, pool: KvPool, share: int) -> PagedBatch:
    """The rows of each request see its context and, in its tree, what `sees` says.

    `share` is the number of query heads that use one key head.
    """
    device = pool.keys.device
    groups: list[RowGroup] = []
    write_slots: list[IntArray] = []
    first = 0
    of_request = zip(nodes.rows.tolist(), nodes.newest.tolist(), nodes.places, nodes.sees, strict=True)
    for row, newest, places, sees in of_request:
        stop = newest + sees.shape[1]
        first_slot = slots.first_slot(row)
        mask = None
        if len(places) > 1 or not sees.all():
            mask = _ancestor_mask(sees, newest, pool.keys.dtype, device).repeat(share, 1)
        groups.append(
            RowGroup(
                start=first,
                stop=first + len(places),
                num_keys=stop,
                first_slot=first_slot,
                key_slots=upload(slots.slots(row, 0, stop), device) if first_slot < 0 else None,
                mask=mask,
            )
        )
        write_slots.append(slots.slots(row, newest, stop)[places])
        first += len(places)
    written = upload(np.concatenate(write_slots), device)
    return PagedBatch(pool, written, tuple(groups), int(nodes.positions.max()) + 1)


def _ancestor_mask(sees: BoolArray, newest: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask [rows, keys] of a tree behind `newest` keys."""
    mask = torch.zeros(len(sees), newest + sees.shape[1], dtype=dtype, device=device)
    mask[:, newest:].masked_fill_(upload(~sees, device), float("-inf"))
    return mask
