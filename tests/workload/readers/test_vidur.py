from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.request import Request
from spinbench.workload.trace_options import TraceOptions


def test_reads_lengths_and_times(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "arrived_at,num_prefill_tokens,num_decode_tokens,pd_ratio\n1e-05,374,44,8.5\n5.8926549999999995,91,16,5.7\n"
    )
    assert load_trace(path, "vidur", TraceOptions()).requests == (
        Request("vidur-0", 0.0, 44, prompt_len_tokens=374, ignore_eos=True, seed=0),
        Request("vidur-1", 5.8926549999999995 - 1e-05, 16, prompt_len_tokens=91, ignore_eos=True, seed=1),
    )


def test_lengths_without_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.8\n")
    with pytest.raises(UserError, match=r"x\.csv:1: the header is .*; it must name, once each, arrived_at,num_prefill"):
        load_trace(path, "vidur", TraceOptions())
