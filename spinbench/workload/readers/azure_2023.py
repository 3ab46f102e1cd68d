"""Azure LLM inference traces of 2023: CSV with a time, a prompt length and an answer length a row, no text."""

import numpy as np
import pandas as pd

from spinbench.workload.json_line import shown
from spinbench.workload.request import Request
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
HEADER = ",".join(COLUMNS)
TIMESTAMP_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?"
LENGTH_PATTERN = r"0*[1-9][0-9]{0,8}"


def read_azure_2023(file: TraceFile, _options: TraceOptions) -> list[Request]:
    """One request a row: its length as prompt, exactly `GeneratedTokens` tokens of answer (`ignore_eos`).

    `arrival_s` counts from the earliest row. The id is `azure-` and the row's number from 0, which is also the seed.
    """
    rows = _read_rows(file)
    _check_column(file, rows["TIMESTAMP"], TIMESTAMP_PATTERN, "a time such as 2023-11-16 18:15:46.6805900")
    for column in COLUMNS[1:]:
        _check_column(file, rows[column], LENGTH_PATTERN, "an integer from 1 to 999999999")
    # Microseconds are not enough: the files have seven digits.
    times = pd.to_datetime(rows["TIMESTAMP"], format="ISO8601", utc=True, errors="coerce").astype("datetime64[ns, UTC]")
    _check_rows(file, rows["TIMESTAMP"], times.notna(), "a time that exists, between 1678 and 2261")
    since_first_s = (times - times.min()).dt.total_seconds()
    return [
        Request(
            id=f"azure-{row}",
            arrival_s=arrival_s,
            max_new_tokens=output_tokens,
            prompt_len_tokens=prompt_tokens,
            ignore_eos=True,
            seed=row,
        )
        for row, (arrival_s, prompt_tokens, output_tokens) in enumerate(
            zip(
                since_first_s.tolist(),
                rows["ContextTokens"].astype("int64").tolist(),
                rows["GeneratedTokens"].astype("int64").tolist(),
                strict=True,
            )
        )
    ]


def _read_rows(file: TraceFile) -> pd.DataFrame:
    """The rows as text, three columns, indexed by line number; blank lines left out."""
    header, _, body = file.text.replace("\r\n", "\n").partition("\n")
    if header.strip() != HEADER:
        raise file.error(1, f"the header is {shown(header)}; it must be {HEADER}")
    if not body.strip():
        raise file.error(1, "no row follows the header; a trace needs at least one request")
    # One field a line first: a row of the wrong width then keeps its line number instead of shifting columns.
    lines = pd.Series(body.split("\n"), dtype="object")
    lines.index += 2
    lines = lines[lines.str.strip() != ""]
    _check_rows(file, lines, lines.str.count(",") == len(COLUMNS) - 1, f"a row of {HEADER}")
    columns = lines.str.split(",", expand=True)
    columns.columns = list(COLUMNS)
    return columns


def _check_column(file: TraceFile, values: pd.Series, pattern: str, expected: str) -> None:
    _check_rows(file, values, values.str.fullmatch(pattern), expected)


def _check_rows(file: TraceFile, values: pd.Series, is_good: pd.Series, expected: str) -> None:
    """Raises UserError for the first row that is not good, naming its line."""
    bad = np.flatnonzero(~is_good.to_numpy(dtype=bool))
    if bad.size:
        line_number = int(values.index.to_numpy()[bad[0]])
        subject = f"{values.name} is " if values.name else ""
        raise file.error(line_number, f"{subject}{shown(values.iloc[bad[0]])}; it must be {expected}")
