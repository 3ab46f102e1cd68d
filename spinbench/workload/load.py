"""The one way in: a trace file of any known format, read, filtered and counted."""

from pathlib import Path
from typing import get_args

from spinbench.errors import UserError
from spinbench.workload.readers.registry import READERS, TraceFormat
from spinbench.workload.request import Trace
from spinbench.workload.selection import CountTokens, select_requests
from spinbench.workload.trace_file import read_trace_file
from spinbench.workload.trace_options import TraceOptions


def load_trace(
    path: Path, format: TraceFormat, options: TraceOptions, count_tokens: CountTokens | None = None
) -> Trace:
    """The requests of `path` that `options` keep, sorted by arrival (equal times keep the file's order).

    `count_tokens` measures prompts given as text; only `options.max_prompt_tokens` asks it. Raises UserError for a bad
    file, naming the line, and for options that do not fit the trace.
    """
    if format not in READERS:
        raise UserError(f'trace.format is "{format}"; formats are {", ".join(get_args(TraceFormat))}')
    file = read_trace_file(path)
    rows = READERS[format](file, options)
    if not rows.requests:
        raise UserError(f"{path}: none of its {rows.dropped_rows} rows is a request with a prompt and an answer")
    requests = sorted(rows.requests, key=lambda request: request.arrival_s)
    selection = select_requests(requests, options, path, count_tokens)
    return Trace(
        name=path.stem,
        requests=selection.requests,
        path=path,
        sha256=file.sha256,
        dropped_requests=rows.dropped_rows + selection.dropped_requests,
        clipped_requests=selection.clipped_requests,
    )
