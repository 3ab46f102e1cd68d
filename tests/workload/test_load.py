import math
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.readers.registry import READERS, TraceFormat
from spinbench.workload.request import Request
from spinbench.workload.selection import select_requests
from spinbench.workload.trace import read_trace, write_trace
from spinbench.workload.trace_options import TraceOptions

PATH = Path("x.jsonl")

# Ten requests: prompts of 1..10 tokens, answers of 10..100; even ones are code, odd ones chat.
REQUESTS = [
    Request(f"r{n}", float(n), 10 * n, prompt_len_tokens=n, category="code" if n % 2 == 0 else "chat")
    for n in range(1, 11)
]


def kept(**options: Any) -> list[str]:
    return [request.id for request in select_requests(REQUESTS, TraceOptions(**options), PATH).requests]


def test_every_format_has_a_reader() -> None:
    assert set(READERS) == set(get_args(TraceFormat))


def test_no_option_keeps_the_trace_as_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_trace(reversed(REQUESTS), path)
    trace = load_trace(path, "spinbench", TraceOptions())
    assert trace == read_trace(path)
    assert trace.requests == tuple(REQUESTS)


def test_drops_and_clips_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_trace(REQUESTS, path)
    options = TraceOptions(categories=("code",), max_prompt_tokens=8, num_prompts=3, max_output_tokens=45)
    trace = load_trace(path, "spinbench", options)
    # code: 2 4 6 8 10; prompts <= 8: 2 4 6 8; first three: 2 4 6, answers of 20 40 60, the last clipped to 45.
    assert [request.id for request in trace.requests] == ["r2", "r4", "r6"]
    assert [request.max_new_tokens for request in trace.requests] == [20, 40, 45]
    assert trace.dropped_requests == 7
    assert trace.clipped_requests == 1


def test_each_option_alone() -> None:
    assert kept(num_prompts=2) == ["r1", "r2"]
    assert kept(num_prompts=99) == [request.id for request in REQUESTS]
    assert kept(categories=("chat",)) == ["r1", "r3", "r5", "r7", "r9"]
    assert kept(categories=("chat", "code")) == [request.id for request in REQUESTS]
    assert kept(max_prompt_tokens=3) == ["r1", "r2", "r3"]


def test_a_sample_depends_on_its_seed_alone_and_keeps_the_order() -> None:
    samples = {seed: kept(num_prompts=5, sample_seed=seed) for seed in range(4)}
    assert samples[0] == kept(num_prompts=5, sample_seed=0)
    assert len({tuple(sample) for sample in samples.values()}) > 1
    for sample in samples.values():
        assert len(set(sample)) == 5
        assert sample == sorted(sample, key=lambda name: int(name[1:]))


def test_texts_and_token_ids_are_measured() -> None:
    requests = [
        Request("text", 0.0, 1, prompt="one two three"),
        Request("ids", 0.0, 1, prompt_token_ids=(5, 6, 7, 8)),
        Request("length", 0.0, 1, prompt_len_tokens=2),
    ]

    def within(limit: int) -> list[str]:
        options = TraceOptions(max_prompt_tokens=limit)
        chosen = select_requests(requests, options, PATH, count_tokens=lambda text: len(text.split()))
        return [request.id for request in chosen.requests]

    assert within(2) == ["length"]
    assert within(3) == ["text", "length"]
    assert within(4) == ["text", "ids", "length"]


@given(
    st.none() | st.integers(1, 12),
    st.booleans(),
    st.sampled_from([None, ("code",), ("chat",), ("chat", "code")]),
    st.none() | st.integers(2, 12),
    st.none() | st.integers(1, 120),
)
def test_nothing_gets_lost(
    num_prompts: int | None,
    is_sampled: bool,
    categories: tuple[str, ...] | None,
    max_prompt_tokens: int | None,
    max_output_tokens: int | None,
) -> None:
    options = TraceOptions(
        num_prompts=num_prompts,
        sample_seed=1 if is_sampled and num_prompts is not None else None,
        categories=categories,
        max_prompt_tokens=max_prompt_tokens,
        max_output_tokens=max_output_tokens,
    )
    selection = select_requests(REQUESTS, options, PATH)
    original = {request.id: request for request in REQUESTS}
    assert len(selection.requests) + selection.dropped_requests == len(REQUESTS)
    shortened = [r for r in selection.requests if r.max_new_tokens < original[r.id].max_new_tokens]
    assert len(shortened) == selection.clipped_requests
    assert all(request.max_new_tokens <= (max_output_tokens or math.inf) for request in selection.requests)
    assert [request.arrival_s for request in selection.requests] == sorted(r.arrival_s for r in selection.requests)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": 0}, "trace.num_prompts is 0; it must be >= 1"),
        ({"max_prompt_tokens": -1}, "trace.max_prompt_tokens is -1; it must be >= 1"),
        ({"max_output_tokens": 0}, "trace.max_output_tokens is 0; it must be >= 1"),
        ({"default_max_new_tokens": 0}, "trace.default_max_new_tokens is 0; it must be >= 1"),
        ({"num_prompts": 1, "sample_seed": -1}, "trace.sample_seed is -1; it must be >= 0"),
        ({"sample_seed": 1}, "trace.sample_seed is set but trace.num_prompts is not: say how many requests to draw"),
        ({"categories": ()}, "trace.categories is empty; name at least one category, or leave it null for all"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        TraceOptions(**options)
    assert str(caught.value) == message


def test_an_unknown_category_lists_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        kept(categories=("code", "poems"))
    assert str(caught.value) == (
        'x.jsonl: trace.categories names "poems", which it does not have; categories are chat, code'
    )
    with pytest.raises(UserError, match="its requests have no category"):
        select_requests([Request("a", 0.0, 1, prompt="x")], TraceOptions(categories=("code",)), PATH)


def test_a_cap_that_leaves_nothing_is_said() -> None:
    requests = [Request("a", 0.0, 1, prompt_len_tokens=9)]
    with pytest.raises(UserError, match=r"at most trace\.max_prompt_tokens = 8 tokens"):
        select_requests(requests, TraceOptions(max_prompt_tokens=8), PATH)


def test_a_text_without_a_tokenizer_is_refused_not_guessed() -> None:
    with pytest.raises(UserError, match='needs a tokenizer to measure the text of request "a"'):
        select_requests([Request("a", 0.0, 1, prompt="x")], TraceOptions(max_prompt_tokens=8), PATH)


def test_an_unknown_format_lists_the_known_ones() -> None:
    unknown: Any = "sharegpt"
    with pytest.raises(UserError, match=r'trace\.format is "sharegpt"; formats are spinbench, spec_bench, azure_2023'):
        load_trace(PATH, unknown, TraceOptions())
