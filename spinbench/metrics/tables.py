"""A run as three flat tables, the same straight after the run and when read back from disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import numpy as np
import pandas as pd
import pyarrow as pa

from spinbench.control.arrays import IntArray
from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.run_record import RequestRecord, RunRecord
from spinbench.control.records.span_record import SpanColumns

REQUEST_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("category", pa.string()),
        ("seed", pa.int64()),
        ("arrival_s", pa.float64()),
        ("first_scheduled_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("finish_s", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("max_new_tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("num_preemptions", pa.int64()),
        ("num_prefill_emitted_tokens", pa.int64()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("output_token_ids", pa.list_(pa.int32())),
    ]
)
ROUND_SCHEMA = pa.schema(
    [
        ("round_index", pa.int64()),
        ("request_id", pa.string()),
        ("drafter", pa.string()),
        ("num_speculative_tokens", pa.int64()),
        ("drafted", pa.int64()),
        ("accepted", pa.int64()),
        ("emitted", pa.int64()),
        ("context_tokens", pa.int64()),
        ("lookup_match_order", pa.int64()),
        ("catch_up_tokens", pa.int64()),
        ("batch_size", pa.int64()),
        ("draft_start_s", pa.float64()),
        ("draft_end_s", pa.float64()),
        ("verify_start_s", pa.float64()),
        ("verify_end_s", pa.float64()),
        ("draft_depth", pa.int64()),
    ]
)
SPAN_SCHEMA = pa.schema(
    [
        ("lane", pa.string()),
        ("kind", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("round_index", pa.int64()),
        ("request_ids", pa.list_(pa.string())),
        ("num_tokens", pa.int64()),
        ("useful_cells", pa.int64()),
        ("padded_cells", pa.int64()),
        ("query_tokens", pa.int64()),
        ("key_tokens", pa.int64()),
        ("peak_key_tokens", pa.int64()),
        ("used_tokens", pa.int64()),
    ]
)
REPLICA = "replica"
"""Column of all three tables, where there are several replicas."""
TEXT_SCHEMA = pa.schema([("output_text", pa.string()), ("prompt", pa.string())])


@dataclass(frozen=True, eq=False)
class RunTables:
    """What every metric is computed from: three tables, the drafters' names and the run's two end points."""

    requests: pd.DataFrame
    """One row per request: the fields of `RequestRecord`, then `output_text` and `prompt` (null where not kept).

    Of a run on several replicas all three tables have a column `replica` as well, from 0.
    """
    rounds: pd.DataFrame
    """One row per (round, request): the fields of `RoundRecord`."""
    spans: pd.DataFrame
    """One row per job: the fields of `SpanRecord`."""
    drafters: tuple[str, ...]
    start_s: float
    end_s: float
    num_replicas: int = 1

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the run to its end."""
        return self.end_s - self.start_s

    @cached_property
    def by_replica(self) -> "tuple[RunTables, ...]":
        """The tables of each replica by its number, over the time of the whole run."""
        if self.num_replicas == 1:
            return (self,)
        frames = (self.requests, self.rounds, self.spans)
        return tuple(
            replace(self, num_replicas=1, requests=requests, rounds=rounds, spans=spans)
            for requests, rounds, spans in (
                [frame[frame[REPLICA] == index] for frame in frames] for index in range(self.num_replicas)
            )
        )


def request_table(
    records: Sequence[RequestRecord],
    texts: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None,
) -> pa.Table:
    """An Arrow table of the requests; `texts` and `prompts` are by request id, and null where they lack one."""
    table = _columns(records, REQUEST_SCHEMA)
    for name, by_id in (("output_text", texts or {}), ("prompt", prompts or {})):
        values = [by_id.get(record.request_id) for record in records]
        table = table.append_column(TEXT_SCHEMA.field(name), pa.array(values, pa.string()))
    return table


def round_table(rounds: RoundColumns) -> pa.Table:
    """An Arrow table with one row per (round, request)."""
    columns: dict[str, pa.Array] = {
        "request_id": _named(rounds.row, rounds.request_ids),
        "drafter": _named(rounds.drafter, rounds.drafters),
        "emitted": pa.array(rounds.accepted + 1),
        "draft_start_s": pa.array(rounds.draft_start_s, from_pandas=True),
        "draft_end_s": pa.array(rounds.draft_end_s, from_pandas=True),
    }
    arrays = [columns[name] if name in columns else pa.array(getattr(rounds, name)) for name in ROUND_SCHEMA.names]
    return pa.Table.from_arrays(arrays, schema=ROUND_SCHEMA)


def span_table(spans: SpanColumns) -> pa.Table:
    """An Arrow table with one row per job."""
    ids = pa.ListArray.from_arrays(pa.array(spans.first_row, pa.int32()), _named(spans.rows, spans.request_ids))
    arrays = [
        ids if name == "request_ids" else pa.array(getattr(spans, name), SPAN_SCHEMA.field(name).type)
        for name in SPAN_SCHEMA.names
    ]
    return pa.Table.from_arrays(arrays, schema=SPAN_SCHEMA)


@dataclass(frozen=True, eq=False)
class ArrowTables:
    """A run's three tables as they are written."""

    requests: pa.Table
    rounds: pa.Table
    spans: pa.Table

    @classmethod
    def of(
        cls, record: RunRecord, texts: Mapping[str, str] | None = None, prompts: Mapping[str, str] | None = None
    ) -> "ArrowTables":
        """Of a run that has just ended; with a column `replica` where there were several."""
        requests = request_table(record.requests, texts, prompts)
        rounds, spans = round_table(record.rounds), span_table(record.spans)
        if record.num_replicas == 1:
            return cls(requests, rounds, spans)
        served_by = record.replica_of
        of_request = np.array([served_by[request.request_id] for request in record.requests], np.int64)
        of_round_row = _replicas(record.rounds.request_ids, served_by)
        # all requests of a job are at one replica
        first = record.spans.rows[record.spans.first_row[:-1]]
        of_span_row = _replicas(record.spans.request_ids, served_by)
        return cls(
            requests.append_column(REPLICA, pa.array(of_request)),
            rounds.append_column(REPLICA, pa.array(of_round_row[record.rounds.row])),
            spans.append_column(REPLICA, pa.array(of_span_row[first])),
        )

    def run_tables(self, record: RunRecord) -> RunTables:
        """The same as metrics take them."""
        return RunTables(
            requests=self.requests.to_pandas(),
            rounds=self.rounds.to_pandas(),
            spans=self.spans.to_pandas(),
            drafters=record.drafters,
            start_s=record.start_s,
            end_s=record.end_s,
            num_replicas=record.num_replicas,
        )


def tables_from_record(
    record: RunRecord, texts: Mapping[str, str] | None = None, prompts: Mapping[str, str] | None = None
) -> RunTables:
    """The tables of a run that has just ended, equal to those that `read_run` gives later."""
    return ArrowTables.of(record, texts, prompts).run_tables(record)


def _replicas(request_ids: Sequence[str], served_by: Mapping[str, int]) -> IntArray:
    """[requests]; those that were never served have no round and no job, and any number will do."""
    return np.array([served_by.get(name, 0) for name in request_ids], np.int64)


def _named(codes: IntArray, names: Sequence[str]) -> pa.Array:
    """The names that `codes` index; null where a code is negative."""
    indices = pa.array(codes, mask=codes < 0)
    return pa.array(names, pa.string()).take(indices) if names else pa.nulls(len(codes), pa.string())


def _columns(records: Sequence[RequestRecord], schema: pa.Schema) -> pa.Table:
    # column by column through attrgetter: a dict or tuple per row costs several times as much
    arrays = [pa.array(list(map(attrgetter(field.name), records)), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
