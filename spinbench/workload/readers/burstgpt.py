"""BurstGPT (arXiv 2401.17644): CSV of requests to ChatGPT and GPT-4, lengths without text.

Columns as at github.com/HPMLL/BurstGPT: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`; the
last two are not needed, nor are the `Session ID` and `Elapsed time` of newer files.
"""

from spinbench.workload.csv_rows import read_csv_rows
from spinbench.workload.readers.length_rows import length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens")


def read_burstgpt(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The lengths and times of the file, see `length_rows`; ids begin with `burstgpt-`, the category is the model.

    A row with 0 response tokens is a failure of the service; it is dropped and counted.
    """
    rows = read_csv_rows(file, COLUMNS)
    return length_rows(
        "burstgpt",
        rows.seconds("Timestamp"),
        rows.counts("Request tokens"),
        rows.counts("Response tokens"),
        categories=rows.labels("Model"),
    )
