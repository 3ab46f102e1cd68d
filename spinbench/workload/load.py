"""The one way in: a trace file of any known format, read, filtered and counted."""

from pathlib import Path
from typing import get_args

from spinbench.dotted_name import import_dotted, is_dotted_name
from spinbench.errors import UserError
from spinbench.workload.readers.protocol import TraceReader
from spinbench.workload.readers.registry import READERS, TraceFormat
from spinbench.workload.request import Trace
from spinbench.workload.selection import CountTokens, select_requests
from spinbench.workload.trace_file import read_trace_file
from spinbench.workload.trace_options import TraceOptions


def load_trace(
    path: Path, format: TraceFormat | str, options: TraceOptions, count_tokens: CountTokens | None = None
) -> Trace:
    """The requests of `path` that `options` keep, sorted by arrival (equal times keep the file's order).

    `format` is one of ours, or the dotted name of a `TraceReader`.
    `count_tokens` measures prompts given as text; only `options.max_prompt_tokens` asks it. Raises UserError for a bad
    file, naming the line, and for options that do not fit the trace.
    """
    reader = _reader(format)
    file = read_trace_file(path)
    rows = reader(file, options)
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


def _reader(format: TraceFormat | str) -> TraceReader:
    known = next((name for name in get_args(TraceFormat) if name == format), None)
    if known is not None:
        return READERS[known]
    if not is_dotted_name(format):
        formats = ", ".join(get_args(TraceFormat))
        raise UserError(f'trace.format is "{format}"; formats are {formats}, or the dotted name of a reader')
    return import_dotted("trace.format", format, "reader")
