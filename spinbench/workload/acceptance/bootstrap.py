"""Streams of requests of which only lengths are known, made of pieces of recorded ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinbench.errors import UserError
from spinbench.workload.acceptance.accepted_runs import MAX_RUN, run_lengths, stretches
from spinbench.workload.acceptance.counter_random import request_keys, uniforms
from spinbench.workload.acceptance.drafter_name import models_of
from spinbench.workload.acceptance.from_table import ngram_agreed, ngram_confidence
from spinbench.workload.acceptance.streams import AcceptanceStreams, Bools, Ints
from spinbench.workload.acceptance.table import AcceptanceTable, Bytes
from spinbench.workload.request import Request


def streams_by_bootstrap(
    table: AcceptanceTable, requests: Sequence[Request], drafter_names: Sequence[str], seed: int
) -> AcceptanceStreams:
    """Streams of `max_new_tokens` positions for each request; no token ids, and no text stops early.

    A circular block bootstrap (Politis and Romano 1992) whose blocks are whole texts: a recorded request is drawn, of
    the same category if the table has that category, else of all, each with the same probability; it is read once
    around from a random token, and so on until the length is reached. So every position of a text is as likely as any
    other, tokens keep their neighbours, and all drafters are seen at the same token, as they were recorded. Runs are
    those of the joined positions; a copy that is right up to the end of its piece goes on as far as the next piece's
    first copy. The draw of a request depends on `seed` and its id alone. Raises UserError for a drafter without columns
    and for a table without requests.
    """
    if not len(table.requests):
        raise UserError(f"{table.where}: holds no request to draw from; record some")
    lengths = np.array([request.max_new_tokens for request in requests], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    pieces = _draw(table, requests, lengths, seed)
    index = stretches(pieces.start, pieces.length)
    drafters = tuple(drafter_names)
    models = models_of(drafters)
    rank = np.empty((len(models), len(index)), np.uint8)
    for row, name in enumerate(models):
        rank[row] = table.column(name).rank[index]
    lookup_run = np.stack([_joined(recorded[index], recorded[pieces.start], pieces) for recorded in table.lookup_run])
    return AcceptanceStreams(
        drafters=drafters,
        offsets=offsets,
        run=run_lengths(rank == 0, offsets),
        match_order=table.match_order[index],
        lookup_run=lookup_run,
        stopped=np.zeros(len(requests), np.bool_),
        ngram_confidence=ngram_confidence(table, drafters, index),
        ngram_agreed=ngram_agreed(table, drafters, index),
        lookup_agreed=None if table.lookup_agreed is None else table.lookup_agreed[index],
        rank=rank,
    )


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Stretches of recorded positions, in the order in which they are joined."""

    row: Ints
    """The request that a piece belongs to."""
    start: Ints
    length: Ints

    @property
    def is_last(self) -> Bools:
        """Of its request."""
        return np.append(self.row[1:] != self.row[:-1], True)[: len(self.row)]


def _draw(table: AcceptanceTable, requests: Sequence[Request], lengths: Ints, seed: int) -> _Pieces:
    recorded = table.requests
    pool_start, pool_size, pool = _pools(table, requests)
    keys = request_keys([request.id for request in requests])
    rows = np.flatnonzero(lengths > 0)
    missing = lengths[rows]
    drawn: list[tuple[Ints, Ints, Ints, Ints]] = []
    while len(rows):
        turn = len(drawn) // 2
        counter = np.full(len(rows), turn)
        which = (uniforms(seed, "text", keys[rows], counter) * pool_size[rows]).astype(np.int64)
        text = pool[pool_start[rows] + which]
        first, size = recorded.offsets[text], recorded.output_tokens[text]
        start = (uniforms(seed, "start", keys[rows], counter) * size).astype(np.int64)
        tail = np.minimum(size - start, missing)
        head = np.minimum(start, missing - tail)
        drawn.append((rows, counter, first + start, tail))
        drawn.append((rows, counter, first, head))
        missing = missing - tail - head
        rows, missing = rows[missing > 0], missing[missing > 0]
    if not drawn:
        empty = np.empty(0, np.int64)
        return _Pieces(empty, empty, empty)
    row, counter, start, length = (np.concatenate(column) for column in zip(*drawn, strict=True))
    is_head = np.concatenate([np.full(len(part[0]), turn % 2) for turn, part in enumerate(drawn)])
    order = np.lexsort((is_head, counter, row))
    order = order[length[order] > 0]
    return _Pieces(row[order], start[order], length[order])


def _pools(table: AcceptanceTable, requests: Sequence[Request]) -> tuple[Ints, Ints, Ints]:
    """Per request where its recorded requests begin in the third array, and how many there are."""
    of_category: dict[str | None, list[int]] = {None: list(range(len(table.requests)))}
    for row, category in enumerate(table.requests.categories):
        if category is not None:
            of_category.setdefault(category, []).append(row)
    places: dict[str | None, tuple[int, int]] = {}
    pool: list[int] = []
    for category, rows in of_category.items():
        places[category] = (len(pool), len(rows))
        pool.extend(rows)
    whole = places[None]
    start, size = np.array([places.get(request.category, whole) for request in requests], np.int64).reshape(-1, 2).T
    return start, size, np.array(pool, np.int64)


def _joined(run: Bytes, first_run: Bytes, pieces: _Pieces) -> Bytes:
    """Recorded runs `run` of the joined positions, made to end where the pieces make them end; changed in place.

    `first_run` is that of each piece's first position.
    """
    ends = np.cumsum(pieces.length)
    starts, is_last = ends - pieces.length, pieces.is_last
    whole = (first_run >= pieces.length) & ~is_last
    # the piece in which a run that begins with each piece ends
    last = np.where(whole, len(whole), np.arange(len(whole)))
    last = np.minimum.accumulate(last[::-1])[::-1]
    from_start = starts[last] - starts + np.minimum(first_run, pieces.length)[last]
    beyond = np.where(is_last, 0, np.append(from_start[1:], 0)[: len(is_last)])
    left = np.repeat(ends.astype(np.int32), pieces.length) - np.arange(len(run), dtype=np.int32)
    places = np.flatnonzero(run >= left)
    piece = np.searchsorted(ends, places, side="right")
    run[places] = np.minimum(left[places] + beyond[piece], MAX_RUN)
    return run
