"""CSV checked column by column, each mistake told in one line that names file, line and column."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinbench.workload.json_line import shown
from spinbench.workload.trace_file import TraceFile

COUNT_PATTERN = r"0*[0-9]{1,9}(\.0+)?"
"""An integer; pandas writes it as 374.0 when a neighbour in its column was missing."""
NUMBER_PATTERN = r"([0-9]{1,20}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?"


@dataclass(frozen=True, slots=True, eq=False)
class CsvRows:
    """The rows of a file as text, a column each for the names that were asked for, indexed by line number."""

    file: TraceFile
    text: pd.DataFrame

    def counts(self, column: str) -> npt.NDArray[np.int64]:
        """A column of numbers of tokens, [rows]. Raises UserError at the first that is none."""
        self._check(column, self.text[column].str.fullmatch(COUNT_PATTERN), "an integer from 0 to 999999999")
        return np.asarray(self.text[column].astype("float64").to_numpy(), np.int64)

    def seconds(self, column: str) -> npt.NDArray[np.float64]:
        """A column of seconds, [rows]. Raises UserError at the first that is no number, negative or infinite."""
        expected = "a finite number of seconds, at least 0"
        self._check(column, self.text[column].str.fullmatch(NUMBER_PATTERN), expected)
        values = self.text[column].astype("float64")
        self._check(column, values < math.inf, expected)
        return np.asarray(values.to_numpy(), np.float64)

    def seconds_since_first(self, column: str) -> npt.NDArray[np.float64]:
        """A column of dates with times as seconds since the earliest, [rows]. Raises UserError at the first bad one."""
        texts = self.text[column]
        self._check(column, texts.str.fullmatch(TIME_PATTERN), "a time such as 2023-11-16 18:15:46.6805900")
        times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        # No two such years are further apart than 64 bits of nanoseconds reach.
        self._check(column, times.dt.year.between(1970, 2261), "a time that exists, between 1970 and 2261")
        # Microseconds are not enough: Azure's files of 2023 have seven digits.
        times = times.astype("datetime64[ns, UTC]")
        return np.asarray((times - times.min()).dt.total_seconds().to_numpy(), np.float64)

    def labels(self, column: str) -> list[str | None]:
        """A column of names, [rows]; `None` where it is blank."""
        return [label or None for label in self.text[column].str.strip().tolist()]

    def _check(self, column: str, is_good: pd.Series, expected: str) -> None:
        check_rows(self.file, self.text[column], is_good, f"{column} is ", expected)


def read_csv_rows(file: TraceFile, columns: Sequence[str]) -> CsvRows:
    """The named columns of a CSV file with a header, whatever their order; other columns and blank lines are left out.

    Fields hold no comma and are not quoted, as in all traces that come as CSV. Raises UserError for a header without
    one of the columns, for a row with more or fewer fields than the header, and when there is no row.
    """
    header, _, body = file.text.replace("\r\n", "\n").partition("\n")
    names = [name.strip() for name in header.split(",")]
    if any(names.count(column) != 1 for column in columns):
        raise file.error(1, f"the header is {shown(header)}; it must name, once each, {','.join(columns)}")
    if not body.strip():
        raise file.error(1, "no row follows the header; a trace needs at least one request")
    # One field a line first: a row of the wrong width then keeps its line number instead of shifting columns.
    lines = pd.Series(body.split("\n"), dtype="object")
    lines.index += 2
    lines = lines[lines.str.strip() != ""]
    is_as_wide = lines.str.count(",") == len(names) - 1
    check_rows(file, lines, is_as_wide, "", f"a row of {len(names)} fields, as the header has")
    fields = lines.str.split(",", expand=True)
    fields.columns = names
    return CsvRows(file, fields[list(columns)])


def check_rows(file: TraceFile, values: pd.Series, is_good: pd.Series, subject: str, expected: str) -> None:
    """Raises UserError for the first of `values`, indexed by line number, that is not good."""
    bad = np.flatnonzero(~is_good.to_numpy(dtype=bool))
    if bad.size:
        line_number = int(values.index.to_numpy()[bad[0]])
        raise file.error(line_number, f"{subject}{shown(values.iloc[bad[0]])}; it must be {expected}")
