"""What the attention kernels are told of one forward pass: one transfer to the device, the same for every layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.runtime.upload import upload

Int32Array = npt.NDArray[np.int32]
TILE_FIELDS = 6
"""Of a tile: request, first row, rows, first key, key behind the last, first partial result (-1 = no partial)."""
MERGE_FIELDS = 4
"""Of a merged row: row, its first partial result, the distance to the next one, their number."""
BITS = 32
"""Tree places in a word of a row's mask."""
SMALLEST_TILE, LARGEST_TILE = 16, 64
"""Query rows times the heads that share a key head: a matrix unit takes 16 at least; more than 64 spill registers."""
SMALLEST_PIECE_KEYS = 128
"""A context is not cut finer than this to fill a device: a piece's own start and its merge would cost more."""


@dataclass(frozen=True, slots=True, eq=False)
class RowKeys:
    """Which keys the rows of a pass see. Requests lie behind each other, as their rows do."""

    num_rows: IntArray
    """[requests]"""
    num_keys: IntArray
    """[requests]: up to the last key that any of its rows sees."""
    limits: IntArray
    """[rows]: every key before this position is seen."""
    bits: Int32Array | None = None
    """[rows, words]: bit p of a row says whether it sees the key at p behind its limit; None = it sees none there."""

    @classmethod
    def causal(cls, start: IntArray, stop: IntArray) -> "RowKeys":
        """Rows `start` to `stop` of each request, each of which sees itself and what lies before it."""
        num_rows = stop - start
        begin = np.cumsum(num_rows) - num_rows
        return cls(num_rows, stop, np.arange(int(num_rows.sum())) + np.repeat(start - begin, num_rows) + 1)

    @classmethod
    def of_trees(cls, newest: IntArray, sees: Sequence[BoolArray]) -> "RowKeys":
        """Rows of token trees: all see the `newest` keys before the tree, and of it what `sees` [rows, places] says."""
        num_rows = np.array([len(own) for own in sees])
        places = max(own.shape[1] for own in sees)
        all_sees = np.zeros((int(num_rows.sum()), -(-places // BITS) * BITS), np.bool_)
        first = 0
        for own in sees:
            all_sees[first : first + len(own), : own.shape[1]] = own
            first += len(own)
        words = np.packbits(all_sees, axis=1, bitorder="little").view("<u4").astype(np.uint32).view(np.int32)
        num_keys = newest + np.array([own.shape[1] for own in sees])
        return cls(num_rows, num_keys, np.repeat(newest, num_rows), words)

    @property
    def reach(self) -> IntArray:
        """[rows]: no key from this position on is seen; does not fall from row to row of a request."""
        return self.limits if self.bits is None else np.repeat(self.num_keys, self.num_rows)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of contexts that are attended to one by one; those of a request hold all its keys."""

    places: IntArray
    """[pieces]: of which request, not falling."""
    first_key: IntArray
    stop_key: IntArray

    @classmethod
    def whole(cls, num_keys: IntArray) -> "Pieces":
        """One for each request."""
        return cls(np.arange(len(num_keys)), np.zeros_like(num_keys), num_keys)

    @classmethod
    def of_width(cls, num_keys: IntArray, width: int) -> "Pieces":
        """As many of `width` keys as it takes."""
        counts = np.maximum(1, -(-num_keys // width))
        places = np.repeat(np.arange(len(num_keys)), counts)
        first = (np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)) * width
        return cls(places, first, np.minimum(first + width, num_keys[places]))

    @classmethod
    def sorted_by_place(cls, places: IntArray, first_key: IntArray, num_keys: IntArray) -> "Pieces":
        """Pieces in any order."""
        order = np.lexsort((first_key, places))
        return cls(places[order], first_key[order], (first_key + num_keys)[order])


@dataclass(frozen=True, slots=True, eq=False)
class HostRows:
    """The tables of a pass on the host; capacities beyond what is used are allowed, see `padded`."""

    tile_rows: int
    """Query rows times sharing heads of a tile: a power of two."""
    tiles: Int32Array
    """[tiles, TILE_FIELDS]"""
    merges: Int32Array
    """[merged rows, MERGE_FIELDS]"""
    num_partials: int
    """Rows of partial results."""
    limits: Int32Array
    """[rows]"""
    requests: Int32Array
    """[rows]: whose each row is."""
    write_slots: Int32Array
    """[rows]: where each row's key and value go."""
    blocks: Int32Array
    """[requests, most blocks]"""
    bits: Int32Array
    """[rows, words], with no words where no row's mask is needed"""


@dataclass(frozen=True, slots=True, eq=False)
class KernelRows:
    """The same on the device, in parts of one buffer."""

    tile_rows: int
    num_partials: int
    tiles: torch.Tensor
    merges: torch.Tensor
    limits: torch.Tensor
    requests: torch.Tensor
    write_slots: torch.Tensor
    blocks: torch.Tensor
    bits: torch.Tensor


def host_rows(
    keys: RowKeys, pieces: Pieces, write_slots: IntArray, blocks: Int32Array, share: int, tile_rows: int | None = None
) -> HostRows:
    """The tables of a pass. `share` is the number of query heads that use one key head.

    `blocks` [requests, most blocks] has the pool's blocks of each request in order.
    """
    if tile_rows is None:
        tile_rows = tile_size(int(keys.num_rows.max()), share)
    rows_per_tile = max(1, tile_rows // share)
    begin = np.cumsum(keys.num_rows) - keys.num_rows
    of_request = np.bincount(pieces.places, minlength=len(keys.num_rows))
    place_in_request = np.arange(len(pieces.places)) - np.repeat(np.cumsum(of_request) - of_request, of_request)

    # partial results: piece by piece of each request that has several, a row for each of its query rows
    in_several = of_request > 1
    num_partial = np.where(in_several, of_request * keys.num_rows, 0)
    first_partial = np.cumsum(num_partial) - num_partial
    piece_partial = first_partial[pieces.places] + place_in_request * keys.num_rows[pieces.places]

    chunks = -(-keys.num_rows // rows_per_tile)
    counts = chunks[pieces.places]
    piece = np.repeat(np.arange(len(counts)), counts)
    first = (np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)) * rows_per_tile
    place = pieces.places[piece]
    num_rows = np.minimum(rows_per_tile, keys.num_rows[place] - first)
    first_row = begin[place] + first
    reach = keys.reach[first_row + num_rows - 1]
    stop_key = np.minimum(pieces.stop_key[piece], reach)
    partial = np.where(in_several[place], piece_partial[piece] + first, -1)
    tiles = np.stack((place, first_row, num_rows, pieces.first_key[piece], stop_key, partial), 1)

    merged = np.repeat(in_several, keys.num_rows)
    row = np.flatnonzero(merged)
    request = np.repeat(np.arange(len(begin)), keys.num_rows)
    owner = request[row]
    merges = np.stack((row, first_partial[owner] + row - begin[owner], keys.num_rows[owner], of_request[owner]), 1)
    bits = np.zeros((len(request), 0), np.int32) if keys.bits is None else keys.bits
    return HostRows(
        tile_rows=tile_rows,
        tiles=tiles.astype(np.int32),
        merges=merges.astype(np.int32),
        num_partials=int(num_partial.sum()),
        limits=keys.limits.astype(np.int32),
        requests=request.astype(np.int32),
        write_slots=write_slots.astype(np.int32),
        blocks=blocks.astype(np.int32),
        bits=bits,
    )


def tile_size(most_rows: int, share: int) -> int:
    """Rows times sharing heads of a tile: 1 for single rows that share no head, else a power of two from 16 on."""
    wanted = most_rows * share
    if wanted == 1:
        return 1
    smallest = max(SMALLEST_TILE, 1 << (share - 1).bit_length())  # one row's heads are not cut
    return max(smallest, min(LARGEST_TILE, 1 << (wanted - 1).bit_length()))


def piece_width(keys: RowKeys, num_kv_heads: int, share: int, wanted_programs: int, step: int) -> int:
    """Width of pieces, a multiple of `step`, with which about `wanted_programs` programs run; 0 = whole contexts."""
    tiles = -(-keys.num_rows // max(1, tile_size(int(keys.num_rows.max()), share) // share))
    programs = int(tiles.sum()) * num_kv_heads
    if programs >= wanted_programs:
        return 0
    # cells of a tile column are its keys: what is cut evenly is the sum over tiles
    keys_in_all = int((tiles * keys.num_keys).sum()) * num_kv_heads
    width = max(SMALLEST_PIECE_KEYS, keys_in_all // wanted_programs)
    return max(1, round(width / step)) * step


FIELDS = ("tiles", "merges", "limits", "requests", "write_slots", "blocks", "bits")
ALIGNED_INTS = 4
"""Tables begin at multiples of so many integers, 16 bytes: else kernels are compiled for each alignment that comes."""


def packed(sizes: Mapping[str, int]) -> tuple[dict[str, slice], int]:
    """Where tables of these many integers lie behind each other in one buffer, and how many it holds."""
    parts: dict[str, slice] = {}
    first = 0
    for name, size in sizes.items():
        parts[name] = slice(first, first + size)
        first += -(-size // ALIGNED_INTS) * ALIGNED_INTS
    return parts, first


def to_device(rows: HostRows, device: torch.device) -> KernelRows:
    """All tables in one transfer."""
    tables: dict[str, Int32Array] = {name: getattr(rows, name) for name in FIELDS}
    parts, size = packed({name: table.size for name, table in tables.items()})
    flat = np.zeros(size, np.int32)
    for name, table in tables.items():
        flat[parts[name]] = table.reshape(-1)
    on_device = upload(flat, device)
    found = {name: on_device[parts[name]].view(table.shape) for name, table in tables.items()}
    return KernelRows(rows.tile_rows, rows.num_partials, **found)
