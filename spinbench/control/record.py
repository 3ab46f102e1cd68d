"""What a run leaves behind: per request, per (round, request) and per job. The same for both engines.

Rounds and jobs are kept as columns: a simulated day has millions of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray

FinishReason = Literal["stop", "length", "aborted", "out_of_memory"]
SpanKind = Literal["prefill", "catch_up", "draft", "draft_ahead", "verify", "generate", "host", "out_of_memory"]
COMPLETED: tuple[FinishReason, ...] = ("stop", "length")
"""Of requests whose answer is whole."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request from arrival to end. Times are seconds on the engine's clock; `None` = never reached."""

    request_id: str
    category: str | None
    seed: int
    arrival_s: float
    """When the request was sent to the server: later than in the trace under a concurrency cap."""
    first_scheduled_s: float | None
    first_token_s: float | None
    finish_s: float | None
    prompt_tokens: int
    output_tokens: int
    max_new_tokens: int
    finish_reason: FinishReason
    """`stop`: end token; `length`: `max_new_tokens`; `aborted`: the run was interrupted first; `out_of_memory`: it was
    given up with the tokens that it had, since a job of it alone did not fit on its device."""
    num_preemptions: int
    num_prefill_emitted_tokens: int
    """Output tokens that came out of a prefill (one per prefill), or of a peer's `generate`; all others: of rounds."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One request's part in one round: `emitted = accepted + 1`."""

    round_index: int
    request_id: str
    drafter: str | None
    """`None`: nothing was drafted for this request (plain decoding)."""
    num_speculative_tokens: int
    """K that was asked for; of a tree, its nodes."""
    drafted: int
    """Tokens really proposed, at most K: prompt lookup may find fewer. Of a tree, those of all branches."""
    accepted: int
    """Drafted tokens kept. Tokens behind an end token are not kept."""
    emitted: int
    context_tokens: int
    """Prompt and output tokens before this round."""
    lookup_match_order: int
    """Length of the n-gram that prompt lookup matched at the start of this round, 0 = no match."""
    catch_up_tokens: int
    """Tokens that had to be prefilled into the drafter because it had not followed this request."""
    batch_size: int
    """Requests in this round."""
    draft_start_s: float | None
    """Of a draft that was made ahead, before the end of the round before."""
    draft_end_s: float | None
    verify_start_s: float
    verify_end_s: float
    draft_depth: int | None = None
    """Tokens on the longest drafted path: all of a chain, fewer than `drafted` of a tree. None = a chain."""


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
class RoundColumns:
    """All `RoundRecord`s of a run, [records] a column; `row` and `drafter` index the two tuples of names."""

    request_ids: tuple[str, ...]
    drafters: tuple[str, ...]
    round_index: IntArray
    row: IntArray
    drafter: IntArray
    """-1 = none."""
    num_speculative_tokens: IntArray
    drafted: IntArray
    accepted: IntArray
    context_tokens: IntArray
    lookup_match_order: IntArray
    catch_up_tokens: IntArray
    batch_size: IntArray
    draft_start_s: FloatArray
    """NaN where nothing was drafted."""
    draft_end_s: FloatArray
    verify_start_s: FloatArray
    verify_end_s: FloatArray
    draft_depth: IntArray

    @classmethod
    def of(cls, records: Sequence[RoundRecord]) -> "RoundColumns":
        """The columns of some records."""
        ids = tuple(dict.fromkeys(record.request_id for record in records))
        names = tuple(dict.fromkeys(record.drafter for record in records if record.drafter is not None))
        columns: dict[str, Any] = {
            "row": np.array([ids.index(record.request_id) for record in records], np.int64),
            "drafter": np.array([-1 if r.drafter is None else names.index(r.drafter) for r in records], np.int64),
            "draft_depth": np.array([r.drafted if r.draft_depth is None else r.draft_depth for r in records], np.int64),
        }
        for name in (column.name for column in fields(cls)[2:]):
            if name not in columns:
                dtype = np.float64 if name.endswith("_s") else np.int64
                columns[name] = np.array([getattr(record, name) for record in records], dtype)
        return cls(ids, names, **columns)

    def __len__(self) -> int:
        """Records."""
        return len(self.row)

    def __getitem__(self, index: int) -> RoundRecord:
        """One record."""
        drafter = int(self.drafter[index])
        start_s, end_s = float(self.draft_start_s[index]), float(self.draft_end_s[index])
        return RoundRecord(
            round_index=int(self.round_index[index]),
            request_id=self.request_ids[self.row[index]],
            drafter=None if drafter < 0 else self.drafters[drafter],
            num_speculative_tokens=int(self.num_speculative_tokens[index]),
            drafted=int(self.drafted[index]),
            accepted=int(self.accepted[index]),
            emitted=int(self.accepted[index]) + 1,
            context_tokens=int(self.context_tokens[index]),
            lookup_match_order=int(self.lookup_match_order[index]),
            catch_up_tokens=int(self.catch_up_tokens[index]),
            batch_size=int(self.batch_size[index]),
            draft_start_s=None if np.isnan(start_s) else start_s,
            draft_end_s=None if np.isnan(end_s) else end_s,
            verify_start_s=float(self.verify_start_s[index]),
            verify_end_s=float(self.verify_end_s[index]),
            draft_depth=int(self.draft_depth[index]),
        )

    def __iter__(self) -> Iterator[RoundRecord]:
        """Record by record; for columns use the arrays."""
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class SpanColumns:
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
    num_tokens: IntArray
    useful_cells: IntArray
    padded_cells: IntArray
    query_tokens: IntArray
    key_tokens: IntArray
    peak_key_tokens: IntArray
    used_tokens: IntArray

    @classmethod
    def of(cls, records: Sequence[SpanRecord]) -> "SpanColumns":
        """The columns of some records."""
        ids = tuple(dict.fromkeys(name for record in records for name in record.request_ids))
        row_of = {name: row for row, name in enumerate(ids)}
        return cls(
            ids,
            tuple(record.lane for record in records),
            tuple(record.kind for record in records),
            np.array([record.start_s for record in records], np.float64),
            np.array([record.end_s for record in records], np.float64),
            np.array([record.round_index for record in records], np.int64),
            np.cumsum([0, *(len(record.request_ids) for record in records)]).astype(np.int64),
            np.array([row_of[name] for record in records for name in record.request_ids], np.int64),
            np.array([record.num_tokens for record in records], np.int64),
            np.array([record.useful_cells for record in records], np.int64),
            np.array([record.padded_cells for record in records], np.int64),
            np.array([record.query_tokens for record in records], np.int64),
            np.array([record.key_tokens for record in records], np.int64),
            np.array([record.peak_key_tokens for record in records], np.int64),
            np.array([record.used_tokens for record in records], np.int64),
        )

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
            num_tokens=int(self.num_tokens[index]),
            useful_cells=int(self.useful_cells[index]),
            padded_cells=int(self.padded_cells[index]),
            query_tokens=int(self.query_tokens[index]),
            key_tokens=int(self.key_tokens[index]),
            peak_key_tokens=int(self.peak_key_tokens[index]),
            used_tokens=int(self.used_tokens[index]),
        )

    def __iter__(self) -> Iterator[SpanRecord]:
        """Record by record; for columns use the arrays."""
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that one run recorded."""

    requests: tuple[RequestRecord, ...]
    rounds: RoundColumns
    spans: SpanColumns
    drafters: tuple[str, ...]
    start_s: float
    end_s: float
    complete: bool
    """False when the run was interrupted: the unfinished requests are marked `aborted`."""
    num_replicas: int = 1
    """Servers behind a router. Rounds have numbers of their own on each; lanes have not."""
    replica_of: Mapping[str, int] = field(default_factory=dict)
    """Number of the replica that served a request, by its id; 0 where it is not named."""
