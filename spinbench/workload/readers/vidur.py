"""vidur's traces (arXiv 2405.05465): CSV with an arrival time and two lengths a row, no text.

Columns as in data/processed_traces/splitwise_conv.csv of github.com/microsoft/vidur:
`arrived_at,num_prefill_tokens,num_decode_tokens`; further columns are not needed. vidur's traces of lengths alone
(`num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio`) have no arrival times and are refused.
"""

from spinbench.workload.csv_rows import read_csv_rows
from spinbench.workload.readers.length_rows import length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

COLUMNS = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")


def read_vidur(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The lengths and times (seconds) of the file, see `length_rows`; ids begin with `vidur-`."""
    rows = read_csv_rows(file, COLUMNS)
    times_s = rows.seconds("arrived_at")
    return length_rows("vidur", times_s, rows.counts("num_prefill_tokens"), rows.counts("num_decode_tokens"))
