"""A run's folder: written so that nothing half-written counts, and read back with one-line errors."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spinbench.control.records.run_record import RunRecord
from spinbench.errors import UserError
from spinbench.json_file import read_json, write_json
from spinbench.metrics.identities import check_tables
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import (
    REQUEST_SCHEMA,
    ROUND_SCHEMA,
    SPAN_SCHEMA,
    TEXT_SCHEMA,
    ArrowTables,
    RunTables,
)
from spinbench.metrics.timeline import chrome_trace
from spinbench.text_file import write_text
from spinbench.whole_file import whole_file

FORMAT = 1
"""Version of the folder's layout, stored in meta.json."""
Kept = Literal["all", "tables", "summary"]
"""What a folder keeps of a run: every file; no trace.json, which is the largest; only config, meta and summary."""
SUMMARY_FILE = "summary.json"
"""Written last: a folder without it holds no run."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run as read from its folder."""

    folder: Path
    summary: Mapping[str, Any]
    meta: Mapping[str, Any]
    config: Mapping[str, Any]

    @cached_property
    def tables(self) -> RunTables:
        """What was recorded, read when it is first asked for. Raises UserError when it was not kept, or is damaged."""
        if not self.has_tables:
            raise UserError(f"{self.folder}: only its summary was kept (keep=summary); run it again with keep=tables")
        return RunTables(
            requests=_read_parquet(self.folder / "requests.parquet", [*REQUEST_SCHEMA.names, *TEXT_SCHEMA.names]),
            rounds=_read_rounds(self.folder / "rounds.parquet"),
            spans=_read_spans(self.folder / "spans.parquet"),
            drafters=tuple(self.meta["drafters"]),
            start_s=float(self.meta["start_s"]),
            end_s=float(self.meta["end_s"]),
            num_replicas=int(self.meta.get("replicas", 1)),
        )

    @property
    def has_tables(self) -> bool:
        """False where only its summary was kept."""
        return self.meta.get("kept") != "summary"

    @property
    def requests(self) -> pd.DataFrame:
        """One row per request, see `RunTables.requests`."""
        return self.tables.requests

    @property
    def rounds(self) -> pd.DataFrame:
        """One row per (round, request), see `RunTables.rounds`."""
        return self.tables.rounds

    @property
    def spans(self) -> pd.DataFrame:
        """One row per job, see `RunTables.spans`."""
        return self.tables.spans

    @property
    def complete(self) -> bool:
        """False when the run was interrupted and only its finished requests are whole."""
        return bool(self.summary["complete"])


def write_run(
    folder: Path,
    record: RunRecord,
    *,
    config: Mapping[str, Any],
    meta: Mapping[str, Any],
    texts: Mapping[str, str] | None,
    prompts: Mapping[str, str] | None,
    slo_ms: Mapping[str, float] | None = None,
    expected_request_ids: Iterable[str] | None = None,
    keep: Kept = "all",
) -> dict[str, Any]:
    """Leaves the run in `folder`: three Parquet tables, trace.json, config.yaml, meta.json and, last, summary.json.

    Gives what is in summary.json. `keep` says which of the others are left out.

    `texts` and `prompts` are by request id; `slo_ms` (from `parse_slo`) adds `request_goodput`. A run that was there is
    replaced. Raises IdentityError when the record contradicts itself or does not hold exactly `expected_request_ids`,
    before anything is written, and UserError when the folder cannot be written.
    """
    written = ArrowTables.of(record, texts, prompts)
    tables = written.run_tables(record)
    check_tables(tables, record.complete, expected_request_ids)
    summary = {"complete": record.complete, **summarise(tables, slo_ms), "slo_ms": dict(slo_ms) if slo_ms else None}
    run_meta = {
        **meta,
        "format": FORMAT,
        "start_s": record.start_s,
        "end_s": record.end_s,
        "drafters": list(record.drafters),
        **({"replicas": record.num_replicas} if record.num_replicas > 1 else {}),
        "kept": keep,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SUMMARY_FILE).unlink(missing_ok=True)  # the old run stops counting before its files change
        for name in ("requests", "rounds", "spans") if keep != "summary" else ():
            with whole_file(folder / f"{name}.parquet") as temporary:
                pq.write_table(getattr(written, name), temporary, compression="zstd")
        if keep == "all":
            write_text(folder / "trace.json", json.dumps(chrome_trace(tables), separators=(",", ":")))
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_json(folder / "meta.json", run_meta)
        write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot write the run: {error.strerror or error}") from error
    return summary


def read_run(folder: Path) -> Run:
    """The run that `write_run` left in `folder`, tables and all.

    Raises UserError when the folder holds no run, a file is missing or damaged, or the format is too new.
    """
    run = open_run(folder)
    _ = run.tables
    return run


def open_run(folder: Path, config: Mapping[str, Any] | None = None) -> Run:
    """The run in `folder`, whose tables are read when they are asked for; `config` saves reading config.yaml.

    Raises UserError as `read_run` does, for damaged tables at their first use.
    """
    if not (folder / SUMMARY_FILE).is_file():
        raise UserError(f"{folder}: no run here ({SUMMARY_FILE} is missing; an unfinished run has none)")
    meta = read_json(folder / "meta.json", _missing(folder / "meta.json"))
    found = meta.get("format")
    if not isinstance(found, int) or found < 1:
        raise UserError(f"{folder / 'meta.json'}: key 'format' is {found!r}, expected {FORMAT}")
    if found > FORMAT:
        raise UserError(
            f"{folder / 'meta.json'}: written in format {found}, this version reads up to {FORMAT}: update spinbench"
        )
    absent = [key for key in ("start_s", "end_s", "drafters") if key not in meta]
    if absent:
        raise UserError(f"{folder / 'meta.json'}: key {absent[0]!r} is missing")
    summary = read_json(folder / SUMMARY_FILE, _missing(folder / SUMMARY_FILE))
    if "complete" not in summary:
        raise UserError(f"{folder / SUMMARY_FILE}: key 'complete' is missing")
    return Run(folder, summary, meta, _read_yaml(folder / "config.yaml") if config is None else config)


def find_runs(roots: list[Path]) -> list[Path]:
    """Every run folder at or below the given folders, sorted, each once.

    Raises UserError when a folder does not exist or none of them holds a run.
    """
    found: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        found.update(path.parent for path in root.rglob(SUMMARY_FILE) if (path.parent / "meta.json").is_file())
    if not found:
        raise UserError(f"{', '.join(map(str, roots))}: no run here or below (a finished run has a {SUMMARY_FILE})")
    return sorted(found)


def _missing(path: Path) -> str:
    return f"{path}: missing, so this is no complete run folder"


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(_missing(path)) from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged or truncated: {str(error).splitlines()[0]}") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise UserError(f"{path}: column {absent[0]!r} is missing")
    return table.to_pandas()


def _read_rounds(path: Path) -> pd.DataFrame:
    rounds = _read_parquet(path, [name for name in ROUND_SCHEMA.names if name != "draft_depth"])
    # runs were written without it when there were chains only
    return rounds if "draft_depth" in rounds else rounds.assign(draft_depth=rounds["drafted"])


def _read_spans(path: Path) -> pd.DataFrame:
    spans = _read_parquet(path, [name for name in SPAN_SCHEMA.names if name != "used_tokens"])
    # runs were written without it when nothing was drafted ahead
    return spans if "used_tokens" in spans else spans.assign(used_tokens=0)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise UserError(_missing(path)) from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values")
    return {str(key): value for key, value in content.items()}
