"""What every trace format offers."""

from typing import Protocol

from spinbench.workload.request import Request
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


class TraceReader(Protocol):
    """Reads one format."""

    def __call__(self, file: TraceFile, options: TraceOptions, /) -> list[Request]:
        """Every request of the file, in the file's order; ids are unique.

        What the format lacks comes from `options`; filters and caps are applied later, by the caller.
        Raises UserError at the first bad line.
        """
        ...
