"""Requests drawn from stated distributions: the file says which, in YAML."""

from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.synthetic import SyntheticTrace, synthetic_requests
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions
from spinbench.workload.yaml_file import parse_yaml


def read_synthetic(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The requests that the file describes, the same on every call; the keys are those of `SyntheticTrace`."""
    return TraceRows(synthetic_requests(parse_yaml(file, SyntheticTrace)))
