"""The columns of an acceptance table's two files: their names and types, from a table and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spinbench.errors import UserError
from spinbench.workload.acceptance.lookup import MAX_ORDER
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_meta import DrafterMeta, TableMeta

SCORES = ("rank", "probability", "top_probability")
"""Columns of each drafter, `SCORE:NAME`."""

REQUEST_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("category", pa.string()),
        ("seed", pa.int64()),
        ("ignore_eos", pa.bool_()),
        ("prompt_tokens", pa.int64()),
        ("max_new_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("stopped", pa.bool_()),
    ]
)
NULLABLE = ("category",)


def position_schema(meta: TableMeta) -> pa.Schema:
    """Columns of positions.parquet, one row per output token, the requests behind each other."""
    scores: list[str] = []
    for drafter in meta.drafters:
        scores.extend(f"{score}:{drafter.name}" for score in SCORES)
        scores.extend(rollout_columns(drafter))
        scores.extend([agreed_column(drafter)] if drafter.copy_agreed else [])
    runs = [f"lookup_run_{order}" for order in range(1, MAX_ORDER + 1)]
    runs += ["lookup_agreed"] if meta.lookup_agreed else []
    return pa.schema([("token_id", pa.int32()), *((name, pa.uint8()) for name in ["match_order", *runs, *scores])])


def rollout_columns(drafter: DrafterMeta) -> list[str]:
    """Of the 2nd drafted token and those behind it."""
    return [f"top_probability_{place}:{drafter.name}" for place in range(2, drafter.rollout_tokens + 1)]


def agreed_column(drafter: DrafterMeta) -> str:
    """How far its drafts and copies agree."""
    return f"copy_agreed:{drafter.name}"


def position_columns(table: AcceptanceTable) -> list[np.ndarray]:
    """As `position_schema` orders them."""
    scores: list[np.ndarray] = []
    for columns in table.columns.values():
        scores.extend(getattr(columns, score) for score in SCORES)
        scores.extend(() if columns.rollout is None else columns.rollout)
        scores.extend(() if columns.copy_agreed is None else (columns.copy_agreed,))
    agreed = () if table.lookup_agreed is None else (table.lookup_agreed,)
    return [table.token_ids, table.match_order, *table.lookup_run, *agreed, *scores]


def read_columns(path: Path, table: pa.Table, schema: pa.Schema) -> dict[str, Any]:
    """Checked columns of a file: NumPy arrays, lists where they are texts. Raises UserError naming the column."""
    columns: dict[str, Any] = {}
    for field in schema:
        if field.name not in table.column_names:
            raise UserError(f"{path}: column {field.name!r} is missing")
        column = table.column(field.name)
        if column.type != field.type:
            raise UserError(f"{path}: column {field.name!r} is {column.type}, it must be {field.type}")
        if column.null_count and field.name not in NULLABLE:
            raise UserError(f"{path}: column {field.name!r} has empty places (null)")
        columns[field.name] = column.to_pylist() if pa.types.is_string(field.type) else column.to_numpy()
    return columns
