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


def times_of(**options: Any) -> list[float]:
    return [request.arrival_s for request in select_requests(REQUESTS, TraceOptions(**options), PATH).requests]


def test_a_window_keeps_its_start_leaves_its_end_and_counts_from_its_start() -> None:
    # Arrivals at 1 2 .. 10 s.
    assert kept(start_s=3.0, end_s=6.0) == ["r3", "r4", "r5"]
    assert times_of(start_s=3.0, end_s=6.0) == [0.0, 1.0, 2.0]
    assert times_of(start_s=8.5) == [0.5, 1.5]
    assert times_of(end_s=3.0) == [1.0, 2.0]
    assert select_requests(REQUESTS, TraceOptions(start_s=3.0, end_s=6.0), PATH).dropped_requests == 7


def test_the_window_is_cut_before_it_is_scaled_and_before_requests_are_counted() -> None:
    assert times_of(start_s=7.0, time_scale=2.0) == [0.0, 2.0, 4.0, 6.0]
    assert times_of(time_scale=0.5, num_prompts=2) == [0.5, 1.0]
    assert kept(start_s=4.0, num_prompts=2, categories=("code",)) == ["r4", "r6"]


def test_a_window_without_requests_is_said() -> None:
    with pytest.raises(UserError) as caught:
        kept(start_s=3.1, end_s=3.9)
    assert str(caught.value) == (
        "x.jsonl: no request arrives from trace.start_s = 3.1 to trace.end_s = 3.9; its requests arrive from 1 to 10 s"
    )
    with pytest.raises(
        UserError, match=r"no request arrives from trace\.start_s = 11 on; its requests arrive from 1 to 10"
    ):
        kept(start_s=11.0)


def test_times_that_overflow_are_said() -> None:
    requests = [Request("a", 1e300, 1, prompt="x")]
    with pytest.raises(UserError, match=r"trace\.time_scale is 1e\+10; arrival times overflow, it must be smaller"):
        select_requests(requests, TraceOptions(time_scale=1e10), PATH)


def test_a_sample_depends_on_its_seed_alone_and_keeps_the_order() -> None:
    samples = {seed: kept(num_prompts=5, sample_seed=seed) for seed in range(4)}
    assert samples[0] == kept(num_prompts=5, sample_seed=0)
    assert len({tuple(sample) for sample in samples.values()}) > 1
    for sample in samples.values():
        assert len(set(sample)) == 5
        assert sample == sorted(sample, key=lambda name: int(name[1:]))


@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 3))
def test_parts_of_one_seed_are_nested_and_keep_the_rate(first: int, second: int, seed: int) -> None:
    small, large = (
        select_requests(REQUESTS, TraceOptions(part=count / len(REQUESTS), part_seed=seed), PATH)
        for count in sorted((first, second))
    )
    assert [len(part.requests) for part in (small, large)] == sorted((first, second))
    assert {request.id for request in small.requests} <= {request.id for request in large.requests}
    original = {request.id: request.arrival_s for request in REQUESTS}
    assert [request.arrival_s for request in small.requests] == pytest.approx(
        [original[request.id] * min(first, second) / len(REQUESTS) for request in small.requests]
    )


def test_parts_differ_by_seed() -> None:
    assert len({tuple(kept(part=0.5, part_seed=seed)) for seed in range(4)}) > 1
    assert len(kept(part=0.01)) == 1


def test_the_category_of_a_part_is_taken_of_what_was_drawn_before() -> None:
    drawn = kept(num_prompts=6, sample_seed=1)
    code = [name for name in drawn if int(name[1:]) % 2 == 0]
    assert kept(num_prompts=6, sample_seed=1, part_category="code") == code
    assert set(kept(num_prompts=6, sample_seed=1, part_category="code", part=0.5)) < set(code)
    assert len(kept(num_prompts=5, sample_seed=1, categories=("code",))) == 5, "there the category comes first"
    with pytest.raises(
        UserError, match=r'x\.jsonl: trace\.part_category names "code", which it does not have; .* chat'
    ):
        kept(num_prompts=1, part_category="code")


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
    st.floats(0, 6),
    st.none() | st.floats(8, 12),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_nothing_gets_lost(
    num_prompts: int | None,
    is_sampled: bool,
    categories: tuple[str, ...] | None,
    max_prompt_tokens: int | None,
    max_output_tokens: int | None,
    start_s: float,
    end_s: float | None,
    time_scale: float,
) -> None:
    options = TraceOptions(
        num_prompts=num_prompts,
        sample_seed=1 if is_sampled and num_prompts is not None else None,
        categories=categories,
        max_prompt_tokens=max_prompt_tokens,
        max_output_tokens=max_output_tokens,
        start_s=start_s,
        end_s=end_s,
        time_scale=time_scale,
    )
    try:
        selection = select_requests(REQUESTS, options, PATH)
    except UserError:
        # The window may cut off all of a category or all short prompts.
        assert start_s > 1
        assert max_prompt_tokens is not None
        return
    original = {request.id: request for request in REQUESTS}
    assert len(selection.requests) + selection.dropped_requests == len(REQUESTS)
    shortened = [r for r in selection.requests if r.max_new_tokens < original[r.id].max_new_tokens]
    assert len(shortened) == selection.clipped_requests
    assert all(request.max_new_tokens <= (max_output_tokens or math.inf) for request in selection.requests)
    arrivals_s = [request.arrival_s for request in selection.requests]
    assert arrivals_s == sorted(arrivals_s)
    assert all((original[r.id].arrival_s - start_s) * time_scale == r.arrival_s for r in selection.requests)
    assert all(0 <= time_s < ((end_s or math.inf) - start_s) * time_scale for time_s in arrivals_s)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": 0}, "trace.num_prompts is 0; it must be >= 1"),
        ({"max_prompt_tokens": -1}, "trace.max_prompt_tokens is -1; it must be >= 1"),
        ({"max_output_tokens": 0}, "trace.max_output_tokens is 0; it must be >= 1"),
        ({"default_max_new_tokens": 0}, "trace.default_max_new_tokens is 0; it must be >= 1"),
        ({"num_prompts": 1, "sample_seed": -1}, "trace.sample_seed is -1; it must be >= 0"),
        ({"part": 0.0}, "trace.part is 0.0; it must be > 0 and <= 1"),
        ({"part": 1.5}, "trace.part is 1.5; it must be > 0 and <= 1"),
        ({"part_seed": -1}, "trace.part_seed is -1; it must be >= 0"),
        ({"sample_seed": 1}, "trace.sample_seed is set but trace.num_prompts is not: say how many requests to draw"),
        ({"time_scale": 0.0}, "trace.time_scale is 0.0; it must be > 0 and finite"),
        ({"time_scale": math.inf}, "trace.time_scale is inf; it must be > 0 and finite"),
        ({"time_scale": math.nan}, "trace.time_scale is nan; it must be > 0 and finite"),
        ({"start_s": -1.0}, "trace.start_s is -1.0; it must be >= 0 and finite"),
        ({"start_s": math.nan}, "trace.start_s is nan; it must be >= 0 and finite"),
        (
            {"start_s": 2.0, "end_s": 2.0},
            "trace.end_s is 2.0; it must be > trace.start_s (2.0) and finite, or null for no end",
        ),
        ({"end_s": math.nan}, "trace.end_s is nan; it must be > trace.start_s (0.0) and finite, or null for no end"),
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
    unknown: Any = "alpaca"
    with pytest.raises(
        UserError, match=r'trace\.format is "alpaca"; formats are spinbench, spec_bench, sharegpt, azure'
    ):
        load_trace(PATH, unknown, TraceOptions())
