"""Mooncake's traces (arXiv 2407.00079, FAST 2025): JSON Lines with lengths and block hashes, no text.

Keys as in FAST25-release/traces of github.com/kvcache-ai/Mooncake: `timestamp` in milliseconds, `input_length`,
`output_length`, `hash_ids`: one for each block of 512 tokens of the prompt, equal where all tokens up to its end are.
"""

from spinbench.workload.readers.hashed_lengths import hashed_length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


def read_mooncake(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The lengths, times and hashes of the file, see `length_rows`; ids begin with `mooncake-`."""
    return hashed_length_rows(file, "mooncake", ticks_per_s=1000.0)
