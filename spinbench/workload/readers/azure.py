"""Azure LLM inference traces: CSV with a time, a prompt length and an answer length a row, no text.

Of 2023 (Splitwise, arXiv 2311.18677; an hour of conversation and of code) and of 2024 (DynamoLLM, arXiv 2408.00741; a
week of each), both at github.com/Azure/AzurePublicDataset. The columns are the same. The times of 2023 have a fraction
of seven digits and no time zone, those of 2024 six digits and a time zone.
"""

from spinbench.workload.csv_rows import read_csv_rows
from spinbench.workload.readers.length_rows import length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The lengths and times of the file, see `length_rows`; ids begin with `azure-`. Times without a zone are UTC."""
    rows = read_csv_rows(file, COLUMNS)
    times_s = rows.seconds_since_first("TIMESTAMP")
    return length_rows("azure", times_s, rows.counts("ContextTokens"), rows.counts("GeneratedTokens"))
