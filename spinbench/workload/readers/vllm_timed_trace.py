"""What `vllm bench serve --dataset-name timed_trace` replays: JSON Lines with times, lengths and block hashes, no text.

Keys by vLLM's defaults, as read by `TimedTrace` in vllm/benchmarks/datasets/datasets.py (vllm-project/vllm pull request
39795, main as of 2026): `timestamp` in seconds, `input_length`, `output_length` and, optionally, `hash_ids`. What vLLM
sets by option is set otherwise here: `--timed-trace-sec-multiplier` is `trace.time_scale` (a trace in milliseconds can
be read as `mooncake` instead), and the `--timed-trace-label-*` are the defaults. vLLM draws prompts from the hashes and
stops when they run out; here a prompt has `input_length` tokens, whatever the number of hashes.
"""

from spinbench.workload.readers.hashed_lengths import hashed_length_rows
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions


def read_vllm_timed_trace(file: TraceFile, _options: TraceOptions) -> TraceRows:
    """The lengths, times and hashes of the file, see `length_rows`; ids begin with `timed-`."""
    return hashed_length_rows(file, "timed", ticks_per_s=1.0)
