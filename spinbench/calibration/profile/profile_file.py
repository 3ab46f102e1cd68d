"""A profile's folder: three tables of timings and `meta.yaml`, written whole and read back with one-line errors."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from spinbench.calibration.profile.meta import FORMAT, ProfileMeta
from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile.table_row import (
    GAP_COLUMNS,
    JOB_COLUMNS,
    OPTIONAL_CELLS,
    PASS_COLUMNS,
    TIMING_COLUMNS,
    Cells,
    gap_point,
    job_point,
    pass_point,
    row_cells,
    timing_of,
)
from spinbench.checked_file import error_in, read_yaml
from spinbench.errors import UserError
from spinbench.text_file import write_text

META_FILE = "meta.yaml"
"""Written last: a folder without it holds no finished profile."""
PASSES_FILE, JOBS_FILE, HOST_FILE = "passes.csv", "jobs.csv", "host.csv"

PassRow = tuple[PassPoint, Timing]
JobRow = tuple[JobPoint, Timing]
GapRow = tuple[GapPoint, Timing]
Point = TypeVar("Point", PassPoint, JobPoint, GapPoint)


@dataclass(frozen=True, slots=True)
class ProfileTables:
    """All timings of a profile."""

    passes: tuple[PassRow, ...]
    jobs: tuple[JobRow, ...]
    gaps: tuple[GapRow, ...]


@dataclass(frozen=True)
class Profile:
    """Timings of one target and its drafters on one device."""

    meta: ProfileMeta
    tables: ProfileTables
    source: str = "profile"
    """Where it came from, for messages."""


def write_profile(folder: Path, profile: Profile) -> None:
    """Leave the profile in `folder`; a reader sees it whole or not at all. Raises UserError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the profile: {error.strerror or error}") from error
    for name, columns, rows in (
        (PASSES_FILE, PASS_COLUMNS, profile.tables.passes),
        (JOBS_FILE, JOB_COLUMNS, profile.tables.jobs),
        (HOST_FILE, GAP_COLUMNS, profile.tables.gaps),
    ):
        write_table(folder / name, (*columns, *TIMING_COLUMNS), [row_cells(point, timing) for point, timing in rows])
    text = yaml.safe_dump(profile.meta.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(folder / META_FILE, text)


def read_profile(folder: Path) -> Profile:
    """The profile in `folder`. Raises UserError naming file and line, column or key of what is wrong with it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a profile is a folder that spinbench profile wrote")
    meta = _read_meta(folder / META_FILE)
    tables = ProfileTables(
        tuple(_read_rows(folder / PASSES_FILE, PASS_COLUMNS, pass_point)),
        tuple(_read_rows(folder / JOBS_FILE, JOB_COLUMNS, job_point)),
        tuple(_read_rows(folder / HOST_FILE, GAP_COLUMNS, gap_point)),
    )
    for name, expected, rows in (
        (PASSES_FILE, meta.num_rows.passes, tables.passes),
        (JOBS_FILE, meta.num_rows.jobs, tables.jobs),
        (HOST_FILE, meta.num_rows.host, tables.gaps),
    ):
        if len(rows) != expected:
            raise UserError(
                f"{folder / name}: {len(rows)} rows, {META_FILE} says {expected}: the file was cut or edited"
            )
    profile = Profile(meta, tables, str(folder))
    _check_names(folder, profile)
    return profile


def profile_sha256(folder: Path) -> str:
    """Hex digest of the profile's files, for the provenance of what was predicted with it."""
    digest = hashlib.sha256()
    for name in (META_FILE, PASSES_FILE, JOBS_FILE, HOST_FILE):
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A CSV file, replaced as a whole. Raises UserError if it cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _read_meta(path: Path) -> ProfileMeta:
    content = read_yaml(path, f"{path}: missing, so this is no finished profile")
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no keys and values")
    version = content.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise UserError(f"{path}: written in format {version}, this version reads up to {FORMAT}: update spinbench")
    try:
        return ProfileMeta.model_validate(content)
    except ValidationError as error:
        raise error_in(path, error) from error


def _read_rows(
    path: Path, columns: Sequence[str], make_point: Callable[[Cells], Point]
) -> Iterator[tuple[Point, Timing]]:
    wanted = (*columns, *TIMING_COLUMNS)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in wanted if name not in (reader.fieldnames or ()) and name not in OPTIONAL_CELLS]
            if absent:
                raise UserError(f"{path}:1: column {absent[0]!r} is missing; columns are {', '.join(wanted)}")
            seen: dict[object, int] = {}
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if None in cells or None in cells.values():
                    raise UserError(f"{where}: not {len(wanted)} columns; the file was cut or edited")
                try:
                    point, timing = make_point(OPTIONAL_CELLS | cells), timing_of(OPTIONAL_CELLS | cells)
                except ValueError as error:
                    raise UserError(f"{where}: {error}") from error
                if point in seen:
                    raise UserError(f"{where}: the same point as in line {seen[point]}")
                seen[point] = reader.line_num
                yield point, timing
    except FileNotFoundError:
        raise UserError(f"{path}: missing, so this is no whole profile") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV: {' '.join(str(error).split())}") from error


def _check_names(folder: Path, profile: Profile) -> None:
    """Every model and lane of the tables must be one that the meta file tells about."""
    models = {model.name for model in profile.meta.models}
    lanes = {"target", *(drafter.name for drafter in profile.meta.drafters)}
    for line, (point, _) in enumerate(profile.tables.passes, 2):
        if point.model not in models:
            raise UserError(f"{folder / PASSES_FILE}:{line}: model {point.model!r} is not among those of {META_FILE}")
    for line, (point, _) in enumerate(profile.tables.jobs, 2):
        if point.lane not in lanes:
            raise UserError(f"{folder / JOBS_FILE}:{line}: lane {point.lane!r} is not among those of {META_FILE}")
