from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.readers.azure import read_azure
from spinbench.workload.readers.protocol import TraceRows
from spinbench.workload.request import Request
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "azure_conv_2023.csv"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROW = "2023-11-16 18:15:46.6805900,374,44"


def read(text: str) -> TraceRows:
    return read_azure(TraceFile(path=Path("x.csv"), text=text, sha256=""), TraceOptions())


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_reads_lengths_and_times(line_end: str) -> None:
    rows = [HEADER, ROW, "2023-11-16 18:15:47,396,109", "", "2023-11-16 18:15:47.9805903,1,7"]
    assert read(line_end.join(rows)).requests == [
        Request("azure-0", 0.0, 44, prompt_len_tokens=374, ignore_eos=True, seed=0),
        Request("azure-1", 0.31941, 109, prompt_len_tokens=396, ignore_eos=True, seed=1),
        # 47.9805903 - 46.6805900: the seventh digit is kept.
        Request("azure-2", 1.3000003, 7, prompt_len_tokens=1, ignore_eos=True, seed=2),
    ]


def test_counts_from_the_earliest_row_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n2023-11-16 18:00:03,3,3\n2023-11-16 18:00:01,1,1\n2023-11-16 18:00:02,2,2\n")
    trace = load_trace(path, "azure_2023", TraceOptions())
    assert [request.arrival_s for request in trace.requests] == [0.0, 1.0, 2.0]
    assert [request.prompt_len_tokens for request in trace.requests] == [1, 2, 3]
    # The id is the place in the file, so it names the same row under every option.
    assert [request.id for request in trace.requests] == ["azure-1", "azure-2", "azure-0"]


def test_caps_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n" + "".join(f"2023-11-16 18:00:0{n},{100 * n},{10 * n}\n" for n in range(1, 6)))
    trace = load_trace(path, "azure_2023", TraceOptions(max_prompt_tokens=400, max_output_tokens=25))
    # Prompts of 100..500, one over 400; answers of 10 20 30 40 left, two over 25.
    assert [request.max_new_tokens for request in trace.requests] == [10, 20, 25, 25]
    assert (trace.dropped_requests, trace.clipped_requests) == (1, 2)


def test_the_trace_of_2024_has_a_time_zone_and_now_and_then_no_fraction(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        f"{HEADER}\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n"
        "2024-05-10 02:00:01.109930+02:00,76,15\n"
    )
    assert load_trace(path, "azure_2024", TraceOptions()).requests == (
        Request("azure-0", 0.0, 5, prompt_len_tokens=2162, ignore_eos=True, seed=0),
        # 1 - 0.00993
        Request("azure-1", 0.99007, 6, prompt_len_tokens=2399, ignore_eos=True, seed=1),
        Request("azure-2", 1.1, 15, prompt_len_tokens=76, ignore_eos=True, seed=2),
    )


def test_the_longest_trace_there_can_be() -> None:
    rows = read(f"{HEADER}\n1970-01-01 00:00:00,1,1\n2261-12-31 23:59:59,1,1")
    # 292 years, 71 of them leap years (1972 to 2260 without 2100 and 2200), less a second.
    assert rows.requests[1].arrival_s == (292 * 365 + 71) * 86_400 - 1


def test_rows_without_tokens_are_dropped_and_counted() -> None:
    rows = read("\n".join([HEADER, f"2023-11-16 18:15:46,0,5\n{ROW}\n2023-11-16 18:15:48,5,0"]))
    # Row 0 is no request, but it is when the trace begins: 46.6805900 - 46.
    assert rows.requests == [Request("azure-1", 0.68059, 44, prompt_len_tokens=374, ignore_eos=True, seed=1)]
    assert rows.dropped_rows == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:46,1", '"2023-11-16 18:15:46,1"; it must be a row of 3 fields, as the header has'),
        (f"{ROW},9", f'"{ROW},9"; it must be a row of 3 fields, as the header has'),
        (
            "2023-11-16 18:15:46,1234567890,5",
            'ContextTokens is "1234567890"; it must be an integer from 0 to 999999999',
        ),
        ("2023-11-16 18:15:46,-5,1", 'ContextTokens is "-5"; it must be an integer from 0 to 999999999'),
        ("2023-11-16 18:15:46,5,1.5", 'GeneratedTokens is "1.5"; it must be an integer from 0 to 999999999'),
        ("2023-11-16 18:15:46,٣,1", 'ContextTokens is "٣"; it must be an integer from 0 to 999999999'),
        ("2023-11-16 18:15:46,5,", 'GeneratedTokens is ""; it must be an integer from 0 to 999999999'),
        ("now,5,5", 'TIMESTAMP is "now"; it must be a time such as 2023-11-16 18:15:46.6805900'),
        (
            "2023-02-30 18:15:46,5,5",
            'TIMESTAMP is "2023-02-30 18:15:46"; it must be a time that exists, between 1970 and 2261',
        ),
        (
            "2023-11-16 18:15:46+99:99,5,5",
            'TIMESTAMP is "2023-11-16 18:15:46+99:99"; it must be a time that exists, between 1970 and 2261',
        ),
        (
            "9999-02-20 18:15:46,5,5",
            'TIMESTAMP is "9999-02-20 18:15:46"; it must be a time that exists, between 1970 and 2261',
        ),
    ],
)
def test_a_bad_row_is_named(row: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read("\n".join([HEADER, ROW, "", row, ROW]))
    assert str(caught.value) == f"x.csv:4: {message}"


def test_a_wrong_header_and_a_file_without_rows_are_said() -> None:
    with pytest.raises(UserError) as caught:
        read(f"time,in,out\n{ROW}")
    assert str(caught.value) == f'x.csv:1: the header is "time,in,out"; it must name, once each, {HEADER}'
    with pytest.raises(UserError, match=r"x\.csv:1: no row follows the header"):
        read(f"{HEADER}\n\n")


@pytest.mark.skipif(not REAL.exists(), reason="the Azure trace is not part of the repository")
def test_the_real_trace() -> None:
    trace = load_trace(REAL, "azure_2023", TraceOptions())
    assert len(trace.requests) == 19_366
    assert sum(request.max_new_tokens for request in trace.requests) == 4_088_665
    assert trace.requests[0].prompt_len_tokens == 374
    # 19:14:08.4025270 - 18:15:46.6805900
    assert trace.requests[-1].arrival_s == 3501.721937
    assert all(request.ignore_eos for request in trace.requests)
