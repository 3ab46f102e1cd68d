"""One forward pass over static tensors: its tables in the sizes of a bucket, and rows that only fill it up."""

from dataclasses import dataclass

import torch

from spinbench.control.arrays import IntArray
from spinbench.runtime.forward.kernel_batch import TableSetting
from spinbench.runtime.forward.paged_batch import PagedBatch, table_batch
from spinbench.runtime.graphs.static_ints import StaticInts
from spinbench.runtime.kernels.kernel_rows import MERGE_FIELDS, TILE_FIELDS, HostRows, KernelRows
from spinbench.runtime.kernels.table_attention import TableBatch
from spinbench.runtime.kv.kv_pool import KvPool

ROW_BUCKETS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Rows that a pass is filled up to. A matrix product costs the same for up to 16 rows, and a bit more from there."""
FEWEST_TILES, FEWEST_PARTIALS, FEWEST_REQUESTS, FEWEST_BLOCKS = 4, 1024, 8, 64
"""Below these, sizes are not told apart: room costs little, a capture takes a tenth of a second."""


def row_bucket(num_rows: int) -> int | None:
    """The smallest bucket with room for these rows; None = no bucket has: such a pass has enough to do by itself."""
    return next((bucket for bucket in ROW_BUCKETS if bucket >= num_rows), None)


def power_of_two(count: int) -> int:
    """The next power of two; 0 for 0."""
    return 1 << (count - 1).bit_length() if count else 0


def in_steps_of_four(count: int, fewest: int) -> int:
    """The smallest of `fewest`, four times that, and so on, that has room for `count`."""
    size = fewest
    while size < count:
        size *= 4
    return size


@dataclass(frozen=True, slots=True)
class PassCapacity:
    """Sizes of a pass's tables: what a graph is captured for."""

    num_rows: int
    num_tiles: int
    num_partials: int
    num_merges: int
    num_requests: int
    num_blocks: int
    tile_rows: int
    num_words: int = 0
    """Of each row's mask in a token tree; 0 = no row has one."""

    @classmethod
    def of(cls, rows: HostRows, setting: TableSetting) -> "PassCapacity":
        """Rows as they are, all else rounded up, so that few sizes occur.

        Contexts that are cut to fill the device come to about as many tiles as it wants programs, however long they
        are: with room for these a graph serves as contexts grow, at the price of programs that find nothing to do.
        """
        is_cut, num_rows = rows.num_partials > 0, len(rows.limits)
        wanted = -(-setting.attention.wanted_programs // setting.shape.num_kv_heads) if is_cut else 0
        return cls(
            num_rows=num_rows,
            num_tiles=power_of_two(max(FEWEST_TILES, wanted, len(rows.tiles))),
            num_partials=in_steps_of_four(rows.num_partials, FEWEST_PARTIALS) if is_cut else 0,
            num_merges=num_rows if is_cut else 0,
            num_requests=in_steps_of_four(len(rows.blocks), FEWEST_REQUESTS),
            num_blocks=power_of_two(max(FEWEST_BLOCKS, rows.blocks.shape[1])),
            tile_rows=rows.tile_rows,
            num_words=rows.bits.shape[1],
        )


class StaticPass:
    """Tables of one pass among the static integers of a graph."""

    def __init__(self, prefix: str, capacity: PassCapacity, shared_blocks: str | None = None) -> None:
        """`shared_blocks` names the pass whose block table this one reads too."""
        self._prefix = prefix
        self._capacity = capacity
        self._blocks_of = shared_blocks or prefix

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tables that it needs."""
        size = self._capacity
        found: dict[str, tuple[int, ...]] = {
            "tiles": (size.num_tiles, TILE_FIELDS),
            "merges": (size.num_merges, MERGE_FIELDS),
            "limits": (size.num_rows,),
            "requests": (size.num_rows,),
            "write_slots": (size.num_rows,),
            "positions": (size.num_rows,),
        }
        if size.num_words:
            found["bits"] = (size.num_rows, size.num_words)
        if self._blocks_of == self._prefix:
            found["blocks"] = (size.num_requests, size.num_blocks)
        return {f"{self._prefix}.{name}": shape for name, shape in found.items()}

    def fill(self, ints: StaticInts, rows: HostRows, positions: IntArray) -> None:
        """Write a pass's tables; tiles and merges without meaning are all zeros, and do nothing."""
        for name in ("tiles", "merges", "limits", "requests", "write_slots"):
            ints.put(f"{self._prefix}.{name}", getattr(rows, name))
        ints.put(f"{self._prefix}.positions", positions)
        if self._capacity.num_words:
            ints.put(f"{self._prefix}.bits", rows.bits)
        if self._blocks_of == self._prefix:
            ints.corner(f"{self._prefix}.blocks", rows.blocks)

    def batch(self, ints: StaticInts, setting: TableSetting, pool: KvPool) -> PagedBatch:
        """What attention is given: parts of the static integers."""
        size = self._capacity
        rows = KernelRows(
            tile_rows=size.tile_rows,
            num_partials=size.num_partials,
            tiles=ints[f"{self._prefix}.tiles"],
            merges=ints[f"{self._prefix}.merges"],
            limits=ints[f"{self._prefix}.limits"],
            requests=ints[f"{self._prefix}.requests"],
            write_slots=ints[f"{self._prefix}.write_slots"],
            blocks=ints[f"{self._blocks_of}.blocks"],
            bits=self._bits(ints),
        )
        # how long contexts are changes from replay to replay: models with a window are refused beforehand
        return table_batch(TableBatch(rows, setting.attention, setting.block_size), pool, 0)

    def _bits(self, ints: StaticInts) -> torch.Tensor:
        if self._capacity.num_words:
            return ints[f"{self._prefix}.bits"]
        return ints[f"{self._prefix}.limits"].new_empty(self._capacity.num_rows, 0)
