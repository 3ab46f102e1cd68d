"""An acceptance table as a folder: positions.parquet, requests.parquet and, last, meta.json."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from spinbench.checked_file import error_in
from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.json_file import read_json, write_json
from spinbench.whole_file import whole_file
from spinbench.workload.acceptance.lookup import MAX_ORDER
from spinbench.workload.acceptance.table import AcceptanceTable, Bytes, DrafterColumns, RecordedRequests
from spinbench.workload.acceptance.table_columns import (
    REQUEST_SCHEMA,
    SCORES,
    agreed_column,
    position_columns,
    position_schema,
    read_columns,
    rollout_columns,
)
from spinbench.workload.acceptance.table_meta import FORMAT, KIND, TableMeta

META_FILE = "meta.json"
"""Written last: a folder without it holds no table."""
POSITIONS_FILE = "positions.parquet"
REQUESTS_FILE = "requests.parquet"
OWN_KEYS = ("format", "kind", "num_requests", "num_positions", "files", "content_sha256")
"""Keys of meta.json beside those of `TableMeta`."""


def write_table(folder: Path, table: AcceptanceTable) -> None:
    """Leaves the table in `folder`, in place of one that was there. Raises UserError when it cannot be written."""
    schema = position_schema(table.meta)
    positions = pa.Table.from_arrays([pa.array(column) for column in position_columns(table)], schema=schema)
    rows = table.requests
    values = (rows.ids, rows.categories, rows.seeds, rows.ignores_eos, rows.prompt_tokens, rows.max_new_tokens,
              rows.output_tokens, rows.stopped)  # fmt: skip
    arrays = [pa.array(value, field.type) for value, field in zip(values, REQUEST_SCHEMA, strict=True)]
    requests = pa.Table.from_arrays(arrays, schema=REQUEST_SCHEMA)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, content in ((POSITIONS_FILE, positions), (REQUESTS_FILE, requests)):
            with whole_file(folder / name) as temporary:
                pq.write_table(content, temporary, compression="zstd")
            files[name] = file_sha256(folder / name)
        meta = {
            "format": table.meta.format,
            "kind": KIND,
            **table.meta.model_dump(mode="json"),
            "num_requests": len(rows),
            "num_positions": rows.num_positions,
            "files": files,
            "content_sha256": content_sha256(table),
        }
        write_json(folder / META_FILE, meta)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the acceptance table: {error.strerror or error}") from error


def read_table(folder: Path) -> AcceptanceTable:
    """The table that `write_table` left in `folder`.

    Raises UserError when the folder holds none, a file is missing, damaged or of another table, a column is missing or
    holds what it cannot hold, or the format is too new.
    """
    path = folder / META_FILE
    raw = _read_meta(path)
    own = {key: raw.pop(key, None) for key in OWN_KEYS}
    try:
        meta = TableMeta.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise error_in(path, error) from None
    files = own["files"] if isinstance(own["files"], dict) else {}
    positions, requests = (_read_parquet(folder / name, files.get(name)) for name in (POSITIONS_FILE, REQUESTS_FILE))
    table = _table(folder, meta, positions, requests)
    if own["num_requests"] != len(table.requests) or own["num_positions"] != table.requests.num_positions:
        raise UserError(f"{path}: num_requests and num_positions do not fit the files; record the table again")
    if own["content_sha256"] != content_sha256(table):
        raise UserError(f"{path}: the digest of the content is another; the table was changed: record it again")
    return table


def content_sha256(table: AcceptanceTable) -> str:
    """Digest of what a table says, however it is stored: origin, requests, tokens and scores."""
    digest = hashlib.sha256()
    origin = table.meta.model_dump(mode="json", exclude={"versions", "created"})
    digest.update(json.dumps(origin, sort_keys=True).encode())
    rows = table.requests
    digest.update(json.dumps([rows.ids, rows.categories]).encode())
    numbers = (rows.seeds, rows.ignores_eos, rows.prompt_tokens, rows.max_new_tokens, rows.output_tokens, rows.stopped)
    for array in (*numbers, *position_columns(table)):
        little_endian = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{array.dtype} {len(array)}\n".encode())
        digest.update(little_endian.tobytes())
    return digest.hexdigest()


def bytes_per_token(folder: Path) -> tuple[float, float]:
    """Stored bytes per position: of token ids and ranks alone, and of all columns."""
    group = pq.read_metadata(folder / POSITIONS_FILE)
    sizes: dict[str, int] = {}
    for index in range(group.num_row_groups):
        for place in range(group.num_columns):
            column = group.row_group(index).column(place)
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    lean = sum(size for name, size in sizes.items() if name == "token_id" or name.startswith("rank:"))
    return lean / max(1, group.num_rows), sum(sizes.values()) / max(1, group.num_rows)


def _table(folder: Path, meta: TableMeta, positions: pa.Table, requests: pa.Table) -> AcceptanceTable:
    of_position = read_columns(folder / POSITIONS_FILE, positions, position_schema(meta))
    of_request = read_columns(folder / REQUESTS_FILE, requests, REQUEST_SCHEMA)
    rows = _requests(folder / REQUESTS_FILE, of_request)
    if rows.num_positions != positions.num_rows:
        raise UserError(
            f"{folder / POSITIONS_FILE}: has {positions.num_rows} rows, but the output_tokens of {REQUESTS_FILE} make "
            f"{rows.num_positions}; the files are not of one table"
        )
    runs: list[Bytes] = [of_position[f"lookup_run_{order}"] for order in range(1, MAX_ORDER + 1)]
    if of_position["match_order"].max(initial=0) > MAX_ORDER:
        raise UserError(f"{folder / POSITIONS_FILE}: match_order is above {MAX_ORDER}; record the table again")
    columns: dict[str, DrafterColumns] = {}
    for drafter in meta.drafters:
        scores: dict[str, Bytes] = {score: of_position[f"{score}:{drafter.name}"] for score in SCORES}
        rollout = [of_position[name] for name in rollout_columns(drafter)]
        agreed = of_position.get(agreed_column(drafter))
        columns[drafter.name] = DrafterColumns(
            **scores, rollout=np.stack(rollout) if rollout else None, copy_agreed=agreed
        )
    return AcceptanceTable(
        meta,
        rows,
        of_position["token_id"],
        of_position["match_order"],
        np.stack(runs),
        columns,
        of_position.get("lookup_agreed"),
        folder,
    )


def _requests(path: Path, columns: dict[str, Any]) -> RecordedRequests:
    lengths = columns["output_tokens"]
    if (lengths < 1).any() or (lengths > columns["max_new_tokens"]).any():
        raise UserError(f"{path}: an output_tokens is below 1 or above max_new_tokens; record the table again")
    ids = tuple(columns["request_id"])
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: a request_id stands there twice; record the table again")
    return RecordedRequests(
        ids=ids,
        prompt_tokens=columns["prompt_tokens"],
        max_new_tokens=columns["max_new_tokens"],
        stopped=columns["stopped"],
        ignores_eos=columns["ignore_eos"],
        seeds=columns["seed"],
        categories=tuple(columns["category"]),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
    )


def _read_meta(path: Path) -> dict[str, Any]:
    missing = f"{path.parent}: no acceptance table here ({META_FILE} is missing; an unfinished one has none)"
    raw = read_json(path, missing)
    if raw.get("kind") != KIND:
        raise UserError(f"{path}: not of an acceptance table; its key 'kind' would be {KIND!r}")
    found = raw.get("format")
    if not isinstance(found, int) or found < 1:
        raise UserError(f"{path}: key 'format' is {found!r}, expected 1 to {FORMAT}")
    if found > FORMAT:
        raise UserError(f"{path}: written in format {found}, this version reads up to {FORMAT}: update spinbench")
    return raw


def _read_parquet(path: Path, sha256: object) -> pa.Table:
    try:
        if file_sha256(path) != sha256:
            raise UserError(
                f"{path}: damaged, truncated or of another table (its digest is not the one in {META_FILE}); record it "
                "again"
            )
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing, so this is no complete acceptance table") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged or truncated: {str(error).splitlines()[0]}") from error
