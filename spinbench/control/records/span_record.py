"""Jobs on their lanes: one by one, and as columns of a whole run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.records.number_columns import number_columns

SpanKind = Literal["prefill", "catch_up", "draft", "draft_ahead", "verify", "generate", "host", "out_of_memory"]


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One job on one lane."""

    lane: str
    """`target`, or the drafter's name, or `host`."""
    kind: SpanKind
    """What was done; `out_of_memory`: it did not fit on the device and came to nothing, its counts are what it asked
    for."""
    start_s: float
    end_s: float
    round_index: int
    """-1 for prefills and `generate`."""
    request_ids: tuple[str, ...]
    num_tokens: int
    """Query rows that a model ran on, padding rows not counted."""
    useful_cells: int
    padded_cells: int
    query_tokens: int = 0
    """Query rows that attention reads, over all passes of the job, copies and padding included."""
    key_tokens: int = 0
    """Keys (with their values) that attention reads, over all passes, padding included."""
    peak_key_tokens: int = 0
    """Keys that a layer's attention copies out of the KV cache at once; 0 = they are read where they lie."""
    used_tokens: int = 0
    """Of a draft made ahead (`draft_ahead`): tokens that a round verified. Of `num_tokens` there is one more for each
    request, the guess at the token in front."""


@dataclass(frozen=True, eq=False)
class SpanWork:
    """What jobs compute and read, [spans] a column, as `SpanRecord` explains."""

    num_tokens: IntArray
    useful_cells: IntArray
    padded_cells: IntArray
    query_tokens: IntArray
    key_tokens: IntArray
    peak_key_tokens: IntArray


@dataclass(frozen=True, eq=False)
class SpanColumns(SpanWork):
    """All `SpanRecord`s of a run, [spans] a column."""

    request_ids: tuple[str, ...]
    lane: tuple[str, ...]
    kind: tuple[SpanKind, ...]
    start_s: FloatArray
    end_s: FloatArray
    round_index: IntArray
    first_row: IntArray
    """[spans + 1]: where each span's requests begin in `rows`."""
    rows: IntArray
    """Requests of all spans behind each other, indices into `request_ids`."""
    used_tokens: IntArray

    @classmethod
    def of(cls, records: Sequence[SpanRecord]) -> "SpanColumns":
        """The columns of some records."""
        ids = tuple(dict.fromkeys(name for record in records for name in record.request_ids))
        row_of = {name: row for row, name in enumerate(ids)}
        columns: dict[str, Any] = {
            "request_ids": ids,
            "lane": tuple(record.lane for record in records),
            "kind": tuple(record.kind for record in records),
            "first_row": np.cumsum([0, *(len(record.request_ids) for record in records)]).astype(np.int64),
            "rows": np.array([row_of[name] for record in records for name in record.request_ids], np.int64),
        }
        return cls(**number_columns(cls, records, columns), **columns)

    def __len__(self) -> int:
        """Spans."""
        return len(self.lane)

    def __getitem__(self, index: int) -> SpanRecord:
        """One record."""
        rows = self.rows[self.first_row[index] : self.first_row[index + 1]]
        return SpanRecord(
            lane=self.lane[index],
            kind=self.kind[index],
            start_s=float(self.start_s[index]),
            end_s=float(self.end_s[index]),
            round_index=int(self.round_index[index]),
            request_ids=tuple(self.request_ids[row] for row in rows.tolist()),
            used_tokens=int(self.used_tokens[index]),
            **{column.name: int(getattr(self, column.name)[index]) for column in fields(SpanWork)},
        )

    def __iter__(self) -> Iterator[SpanRecord]:
        """Record by record; for columns use the arrays."""
        return (self[index] for index in range(len(self)))
