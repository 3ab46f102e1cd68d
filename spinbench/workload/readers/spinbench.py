"""spinbench's own traces: canonical JSON Lines."""

from spinbench.workload import trace
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


def read_spinbench(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The requests of a canonical trace; its lines leave nothing to the options."""
    return TraceRows(trace.read_requests(file))
