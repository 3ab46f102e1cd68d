from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.request import Request
from spinbench.workload.trace_options import TraceOptions

# The third row is a failure; the trace's second file goes on counting where the first ends.
SAMPLE = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5270405,ChatGPT,472,18,490,Conversation log
5270445,GPT-4,1087,230,1317,API log
5270446,GPT-4,800,0,800,API log
5270518,ChatGPT,417,276,693,Conversation log
"""


def test_reads_lengths_times_and_models_and_drops_failures(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(SAMPLE)
    trace = load_trace(path, "burstgpt", TraceOptions())
    assert trace.requests == (
        Request("burstgpt-0", 0.0, 18, prompt_len_tokens=472, ignore_eos=True, category="ChatGPT", seed=0),
        Request("burstgpt-1", 40.0, 230, prompt_len_tokens=1087, ignore_eos=True, category="GPT-4", seed=1),
        Request("burstgpt-3", 113.0, 276, prompt_len_tokens=417, ignore_eos=True, category="ChatGPT", seed=3),
    )
    assert trace.dropped_requests == 1


def test_drops_of_the_reader_and_of_the_filters_add_up(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(SAMPLE)
    trace = load_trace(path, "burstgpt", TraceOptions(categories=("ChatGPT",), num_prompts=1))
    assert [request.id for request in trace.requests] == ["burstgpt-0"]
    # One failure, one of GPT-4, one over num_prompts.
    assert trace.dropped_requests == 3


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "Timestamp, Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "0.5,7,1.25, ,12.0,3.0,15.0,API log\n"
    )
    (request,) = load_trace(path, "burstgpt", TraceOptions()).requests
    assert request == Request("burstgpt-0", 0.0, 3, prompt_len_tokens=12, ignore_eos=True, seed=0)


def test_failures_alone_are_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("".join(SAMPLE.splitlines(keepends=True)[index] for index in (0, 3)))
    with pytest.raises(UserError) as caught:
        load_trace(path, "burstgpt", TraceOptions())
    assert str(caught.value) == f"{path}: none of its 1 rows is a request with a prompt and an answer"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("soon,GPT-4,1,1,2,API log", 'Timestamp is "soon"; it must be a finite number of seconds, at least 0'),
        ("-1,GPT-4,1,1,2,API log", 'Timestamp is "-1"; it must be a finite number of seconds, at least 0'),
        ("1e999,GPT-4,1,1,2,API log", 'Timestamp is "1e999"; it must be a finite number of seconds, at least 0'),
        ("nan,GPT-4,1,1,2,API log", 'Timestamp is "nan"; it must be a finite number of seconds, at least 0'),
        ("1,GPT-4,1,1,2", '"1,GPT-4,1,1,2"; it must be a row of 6 fields, as the header has'),
        ("1,GPT-4,1,x,2,API log", 'Response tokens is "x"; it must be an integer from 0 to 999999999'),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(SAMPLE + row)
    with pytest.raises(UserError) as caught:
        load_trace(path, "burstgpt", TraceOptions())
    assert str(caught.value) == f"{path}:6: {message}"


@pytest.mark.parametrize(
    "header", ["Timestamp,Model,Request tokens", "Model,Timestamp,Model,Request tokens,Response tokens"]
)
def test_a_column_that_is_missing_or_there_twice_is_said(tmp_path: Path, header: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{header}\n1,2,3")
    with pytest.raises(
        UserError, match=r"x\.csv:1: the header is .*; it must name, once each, Timestamp,Model,Request"
    ):
        load_trace(path, "burstgpt", TraceOptions())
