"""No file, however broken, gets more out of a reader than requests or a UserError that names file and line."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.workload.readers.registry import READERS, TraceFormat
from spinbench.workload.trace import MAX_TOKENS
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

HEADERS: dict[TraceFormat, str] = {
    "azure_2023": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "azure_2024": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens",
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens",
}
GOOD: dict[TraceFormat, dict[str, object]] = {
    "spinbench": {"id": "a", "arrival_s": 1.5, "max_new_tokens": 3, "prompt": "x"},
    "spec_bench": {"question_id": 7, "category": "qa", "turns": ["Why?"]},
    "mooncake": {"timestamp": 20, "input_length": 3, "output_length": 2, "hash_ids": [1]},
    "vllm_timed_trace": {"timestamp": 0.5, "input_length": 3, "output_length": 2},
    "sharegpt": {"conversations": [{"from": "human", "value": "Why?"}], "output_length": 4},
}

fields = (
    st.sampled_from(
        [
            "2023-11-16 18:15:46",
            "0000-00-00 00:00:00",
            "1970-01-01 00:00:00+14:00",
            "2261-12-31 23:59:59.9",
            "9999-12-31 23:59:59Z",
            "0",
            "1",
            "1.0",
            "1e308",
            "999999999",
        ]
    )
    | st.sampled_from(['"', "\r", "\0", "", ".", "٣", "nan"])
    | st.text(max_size=8)
)
numbers = st.integers(0, 3) | st.integers() | st.floats()


def values(keys: list[str]) -> st.SearchStrategy[object]:
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=10,
    )


def check(format: TraceFormat, text: str) -> None:
    try:
        rows = READERS[format](TraceFile(path=Path("x"), text=text, sha256=""), TraceOptions())
    except UserError as error:
        place, _, message = str(error).partition(": ")
        assert place.startswith("x:")
        assert 1 <= int(place.removeprefix("x:")) <= text.count("\n") + 1
        assert message
        assert "\n" not in message
        return
    assert len(rows.requests) + rows.dropped_rows >= (1 if text.strip() and format != "spinbench" else 0)
    assert len({request.id for request in rows.requests}) == len(rows.requests)
    for request in rows.requests:
        assert 0 <= request.arrival_s < math.inf
        assert 1 <= request.max_new_tokens <= MAX_TOKENS
        assert bool(request.prompt) != (request.prompt_len_tokens is not None)


@pytest.mark.parametrize("format", list(READERS))
@given(text=st.text(max_size=200).filter(str.strip))
@example("0\x85\t")  # a line of YAML ends there too
def test_any_text(format: TraceFormat, text: str) -> None:
    check(format, text)


@pytest.mark.parametrize("format", list(HEADERS))
@settings(max_examples=25)
@given(data=st.data(), rows=st.lists(st.lists(fields, max_size=5).map(",".join), max_size=4))
def test_any_csv(format: TraceFormat, data: st.DataObject, rows: list[str]) -> None:
    width = HEADERS[format].count(",") + 1
    as_wide = st.lists(fields, min_size=width, max_size=width).map(",".join)
    check(format, "\n".join([HEADERS[format], *data.draw(st.just(rows) | st.lists(as_wide, max_size=3))]))


@pytest.mark.parametrize("format", list(GOOD))
@settings(max_examples=25)
@given(data=st.data())
def test_any_json(format: TraceFormat, data: st.DataObject) -> None:
    good = GOOD[format]
    value = values(list(good))
    changed = st.dictionaries(st.sampled_from(list(good)), value, max_size=2).map(lambda change: good | change)
    line = (changed | value).map(json.dumps) | st.text(max_size=9)
    lines = data.draw(st.lists(line, min_size=1, max_size=3).filter(lambda drawn: bool("".join(drawn).strip())))
    check(format, f"[{','.join(lines)}]" if format == "sharegpt" else "\n".join(lines))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "a: " * 10_000, "- " * 10_000])
@pytest.mark.parametrize("format", list(READERS))
def test_depth_and_length(format: TraceFormat, text: str) -> None:
    with pytest.raises(UserError, match=r"^x:1: "):
        READERS[format](TraceFile(path=Path("x"), text=text, sha256=""), TraceOptions())
