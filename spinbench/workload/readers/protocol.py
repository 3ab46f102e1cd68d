"""What every trace format offers."""

from dataclasses import dataclass
from typing import Protocol

from spinbench.workload.request import Request
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


@dataclass(frozen=True, slots=True)
class TraceRows:
    """What a reader makes of a file."""

    requests: list[Request]
    """In the file's order; ids are unique."""
    dropped_rows: int = 0
    """Rows that are well-formed but no request that could be served, such as failed ones."""


class TraceReader(Protocol):
    """Reads one format."""

    def __call__(self, file: TraceFile, options: TraceOptions, /) -> TraceRows:
        """Every request of the file.

        What the format lacks comes from `options`; filters and caps are applied later, by the caller.
        Raises UserError at the first bad line.
        """
        ...
