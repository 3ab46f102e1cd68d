import json
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.readers.registry import TraceFormat
from spinbench.workload.request import Request
from spinbench.workload.trace import read_trace, write_trace
from spinbench.workload.trace_options import TraceOptions

GOOD = {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}


def file_of(folder: Path, *changes: dict[str, object]) -> Path:
    path = folder / "x.jsonl"
    lines = [{key: value for key, value in {**GOOD, **change}.items() if value is not ...} for change in changes]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.parametrize(
    ("format", "name", "tick_s"), [("mooncake", "mooncake", 0.001), ("vllm_timed_trace", "timed", 1.0)]
)
def test_reads_lengths_times_and_hashes(tmp_path: Path, format: TraceFormat, name: str, tick_s: float) -> None:
    path = file_of(
        tmp_path,
        {"timestamp": 2000, "type": "text"},
        {"timestamp": 5500, "hash_ids": [0, 2**64 - 1], "output_length": 8},
        {"timestamp": 6000.5, "hash_ids": ..., "input_length": 3},
        {"timestamp": 7000, "output_length": 0},
    )
    trace = load_trace(path, format, TraceOptions())
    # Counted from the first line: 0, 3500, 4000.5 ticks.
    assert trace.requests == (
        Request(f"{name}-0", 0.0, 5, prompt_len_tokens=1100, ignore_eos=True, seed=0, hash_ids=(0, 1, 2)),
        Request(
            f"{name}-1", 3500 * tick_s, 8, prompt_len_tokens=1100, ignore_eos=True, seed=1, hash_ids=(0, 2**64 - 1)
        ),
        Request(f"{name}-2", 4000.5 * tick_s, 5, prompt_len_tokens=3, ignore_eos=True, seed=2),
    )
    assert trace.dropped_requests == 1


def test_hashes_survive_in_a_canonical_trace(tmp_path: Path) -> None:
    requests = load_trace(file_of(tmp_path, {}, {"hash_ids": []}), "mooncake", TraceOptions()).requests
    write_trace(requests, tmp_path / "canonical.jsonl")
    assert read_trace(tmp_path / "canonical.jsonl").requests == requests
    assert [request.hash_ids for request in requests] == [(0, 1, 2), ()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": -1}, "timestamp is -1; it must be >= 0"),
        ({"timestamp": "12.4"}, 'timestamp is "12.4"; it must be a number'),
        ({"timestamp": float("inf")}, "timestamp is Infinity; it must be a finite number"),
        ({"input_length": -1}, "input_length is -1; it must be >= 0"),
        ({"output_length": 2.5}, "output_length is 2.5; it must be an integer"),
        ({"output_length": ...}, "output_length is missing; every line needs timestamp, input_length, output_length"),
        ({"hash_ids": [1, "2"]}, 'hash_ids[1] is "2"; it must be an integer'),
        ({"hash_ids": 7}, "hash_ids is 7; it must be a list"),
    ],
)
@pytest.mark.parametrize("format", ["mooncake", "vllm_timed_trace"])
def test_a_bad_line_is_named(tmp_path: Path, format: TraceFormat, change: dict[str, object], message: str) -> None:
    path = file_of(tmp_path, {}, change)
    with pytest.raises(UserError) as caught:
        load_trace(path, format, TraceOptions())
    assert str(caught.value) == f"{path}:2: {message}"
