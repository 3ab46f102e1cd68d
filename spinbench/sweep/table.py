"""All points of a sweep as one Parquet table: the same bytes, whatever the order in which points were done."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spinbench.errors import UserError
from spinbench.json_file import read_json
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, TABLE_FILE, SweepFolder, reason_of
from spinbench.whole_file import whole_file

FIRST_COLUMNS = ("key", "status", "failure")
CONFIG_COLUMN = "config"
"""The whole config as JSON."""
VARIES = b"spinbench.varies"
"""Key of the schema's metadata: names of the columns in which points differ, as JSON."""


def write_table(folder: SweepFolder) -> pa.Table:
    """Gather what is done and what failed into points.parquet, in the place of an earlier one.

    One row per point, sorted by key. Columns: `key`; `status` (done, failed) and `failure`; the choices of groups and
    the config keys in which the points differ; every metric (of a mapping one column per entry, `METRIC.ENTRY`); and
    `config`, all of it. Nothing in it depends on when, where or in which order points were done. Raises UserError.
    """
    path = folder.path / TABLE_FILE
    folder.require()  # nothing is left where no sweep is
    with folder.locked("table"):
        table = points_table(folder)
        try:
            with whole_file(path) as temporary:
                pq.write_table(table, temporary, compression="zstd")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return table


def points_table(folder: SweepFolder) -> pa.Table:
    """The table of `write_table`. Raises UserError when there is no sweep, or a point's file is damaged."""
    rows = []
    for key, point in sorted(folder.points().items()):
        path = folder.folder_of(point)
        if folder.is_done(point):
            content = read_json(path / POINT_FILE)
            rows.append(_Row(key, "done", None, content, content.get("metrics", {})))
        elif folder.is_failed(point):
            content = read_json(path / FAILURE_FILE)
            rows.append(_Row(key, "failed", reason_of(content), content, {}))
    return _table(rows)


def varying_columns(table: pa.Table) -> list[str]:
    """The columns in which the points' configs differ."""
    return json.loads((table.schema.metadata or {}).get(VARIES, b"[]"))


class _Row:
    def __init__(
        self, key: str, status: str, failure: str | None, content: Mapping[str, Any], metrics: Mapping[str, Any]
    ) -> None:
        self.own = {"key": key, "status": status, "failure": failure}
        self.config = content.get("config", {})
        self.settings = {**content.get("choices", {}), **flat(self.config)}
        self.metrics = flat(metrics)


def _table(rows: Sequence[_Row]) -> pa.Table:
    settings = _varying([row.settings for row in rows])
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    columns: dict[str, pa.Array] = {}
    for name in FIRST_COLUMNS:
        columns[name] = pa.array([row.own[name] for row in rows], pa.string())
    for name in settings:
        columns[name] = _column([row.settings.get(name) for row in rows])
    for name in sorted(metrics):
        # a setting and a metric of one name: the setting is what one looks for
        columns[name if name not in columns else f"metrics.{name}"] = _column([row.metrics.get(name) for row in rows])
    whole = [json.dumps(row.config, sort_keys=True, ensure_ascii=False) for row in rows]
    columns[CONFIG_COLUMN] = pa.array(whole, pa.string())
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    return table.replace_schema_metadata({VARIES: json.dumps(settings).encode()})


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their keys with dots."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values differ, sorted; a class's name only where no group's choice says the same."""
    names = sorted({name for row in rows for name in row})
    several = [name for name in names if len({json.dumps(row.get(name)) for row in rows}) > 1]
    return [name for name in several if name.removesuffix("._target_").removesuffix(".kind") not in
            (several if name.endswith(("._target_", ".kind")) else ())]  # fmt: skip


def _column(values: Sequence[Any]) -> pa.Array:
    """Numbers, truths, texts or lists of numbers as themselves; what is mixed, or nested deeper, as JSON."""
    there = [value for value in values if value is not None]
    for kinds, arrow in (
        ((bool,), pa.bool_()),
        ((int,), pa.int64()),
        ((int, float), pa.float64()),
        ((str,), pa.string()),
    ):
        if all(type(value) in kinds for value in there):
            return pa.array(values, arrow if there else pa.null())
    if all(isinstance(value, list) and all(type(one) in (int, float) for one in value) for value in there):
        return pa.array([None if value is None else [float(one) for one in value] for value in values],
                        pa.list_(pa.float64()))  # fmt: skip
    texts = [None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values]
    return pa.array(texts, pa.string())
