"""A run as three flat tables, the same straight after the run and when read back from disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import pandas as pd
import pyarrow as pa

from spinbench.control.record import RequestRecord, RoundRecord, RunRecord, SpanRecord

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
    ]
)
TEXT_SCHEMA = pa.schema([("output_text", pa.string()), ("prompt", pa.string())])


@dataclass(frozen=True, eq=False)
class RunTables:
    """What every metric is computed from: three tables, the drafters' names and the run's two end points."""

    requests: pd.DataFrame
    """One row per request: the fields of `RequestRecord`, then `output_text` and `prompt` (null where not kept)."""
    rounds: pd.DataFrame
    """One row per (round, request): the fields of `RoundRecord`."""
    spans: pd.DataFrame
    """One row per job: the fields of `SpanRecord`."""
    drafters: tuple[str, ...]
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the run to its end."""
        return self.end_s - self.start_s


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


def round_table(records: Sequence[RoundRecord]) -> pa.Table:
    """An Arrow table with one row per (round, request)."""
    return _columns(records, ROUND_SCHEMA)


def span_table(records: Sequence[SpanRecord]) -> pa.Table:
    """An Arrow table with one row per job."""
    return _columns(records, SPAN_SCHEMA)


def tables_from_record(
    record: RunRecord, texts: Mapping[str, str] | None = None, prompts: Mapping[str, str] | None = None
) -> RunTables:
    """The tables of a run that has just ended, equal to those that `read_run` gives later."""
    return RunTables(
        requests=request_table(record.requests, texts, prompts).to_pandas(),
        rounds=round_table(record.rounds).to_pandas(),
        spans=span_table(record.spans).to_pandas(),
        drafters=record.drafters,
        start_s=record.start_s,
        end_s=record.end_s,
    )


def _columns(records: Sequence[RequestRecord | RoundRecord | SpanRecord], schema: pa.Schema) -> pa.Table:
    # Column by column through attrgetter: on a million rounds a dict or tuple per row costs several times as much.
    arrays = [pa.array(list(map(attrgetter(field.name), records)), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
