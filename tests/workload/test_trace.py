import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.workload.request import Request
from spinbench.workload.trace import MAX_TOKENS, RequestLine, read_requests, read_trace, write_trace
from spinbench.workload.trace_file import TraceFile

GOOD = {"id": "a", "arrival_s": 0, "max_new_tokens": 8, "prompt": "Hello"}


def line(**changes: object) -> str:
    """A good line with some keys changed; `...` removes one."""
    return json.dumps({key: value for key, value in {**GOOD, **changes}.items() if value is not ...})


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_every_key(tmp_path: Path) -> None:
    path = tmp_path / "full.jsonl"
    text = (
        '{"id": "a", "arrival_s": 1.5, "max_new_tokens": 4, "prompt": "Grüße", "category": "chat", "seed": 7}\n'
        '{"id": "b", "arrival_s": 2, "max_new_tokens": 5, "prompt_token_ids": [3, 0], "ignore_eos": true}\n'
        '{"id": "c", "arrival_s": 3, "max_new_tokens": 6, "prompt_len_tokens": 9, "prompt": null}\n'
    )
    path.write_text(text, encoding="utf-8")
    trace = read_trace(path)
    assert trace.requests == (
        Request("a", 1.5, 4, prompt="Grüße", category="chat", seed=7),
        Request("b", 2.0, 5, prompt_token_ids=(3, 0), ignore_eos=True),
        Request("c", 3.0, 6, prompt_len_tokens=9),
    )
    assert (trace.name, trace.path) == ("full", path)
    assert trace.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (trace.dropped_requests, trace.clipped_requests) == (0, 0)


def test_a_line_has_the_keys_of_a_request() -> None:
    fields = {field.name: field for field in dataclasses.fields(Request)}
    assert set(RequestLine.model_fields) == set(fields)
    for key, line_field in RequestLine.model_fields.items():
        assert line_field.is_required() == (fields[key].default is dataclasses.MISSING)
        if not line_field.is_required():
            assert line_field.default == fields[key].default


def test_sorts_by_arrival_and_keeps_the_order_of_equal_times(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    arrivals = {"late": 2, "first": 1, "second": 1, "third": 1, "start": 0}
    path.write_text("\n".join(line(id=name, arrival_s=arrival_s) for name, arrival_s in arrivals.items()))
    assert [request.id for request in read_trace(path).requests] == ["start", "first", "second", "third", "late"]


def test_accepts_windows_line_ends_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{line()}\r\n\r\n{line(id='b')}\r\n \n".encode())
    assert [request.id for request in read_trace(path).requests] == ["a", "b"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line(arrival_s=-1.0), "arrival_s is -1.0; it must be >= 0"),
        (line(arrival_s=float("nan")), "arrival_s is NaN; it must be a finite number"),
        (line(arrival_s=float("inf")), "arrival_s is Infinity; it must be a finite number"),
        (line(arrival_s="0"), 'arrival_s is "0"; it must be a number'),
        (line(arrival_s=True), "arrival_s is true; it must be a number"),
        (line(max_new_tokens=0), "max_new_tokens is 0; it must be >= 1"),
        (line(max_new_tokens=True), "max_new_tokens is true; it must be an integer"),
        (line(max_new_tokens=2.0), "max_new_tokens is 2.0; it must be an integer"),
        (line(max_new_tokens=MAX_TOKENS + 1), "max_new_tokens is 2147483648; it must be <= 2147483647"),
        (line(ignore_eos=1), "ignore_eos is 1; it must be true or false"),
        (line(seed=-1), "seed is -1; it must be >= 0"),
        (line(hash_ids=[3, 2**64]), f"hash_ids[1] is {2**64}; it must be <= {2**64 - 1}"),
        (line(seed=2**63), f"seed is {2**63}; it must be <= {2**63 - 1}"),
        (line(id=7), "id is 7; it must be a string"),
        (line(id=""), "id is empty; leave it out or give at least one element"),
        (line(prompt=""), "prompt is empty; leave it out or give at least one element"),
        (
            line(prompt=...),
            "a request needs exactly one of prompt, prompt_token_ids, prompt_len_tokens; it has none of them",
        ),
        (
            line(prompt_len_tokens=3),
            "a request needs exactly one of prompt, prompt_token_ids, prompt_len_tokens; it has prompt and prompt_len_tokens",
        ),
        (line(prompt=..., prompt_token_ids=[]), "prompt_token_ids is empty; leave it out or give at least one element"),
        (line(prompt=..., prompt_token_ids=[4, -2]), "prompt_token_ids[1] is -2; it must be >= 0"),
        (line(prompt=..., prompt_token_ids=[4, True]), "prompt_token_ids[1] is true; it must be an integer"),
        (line(prompt=..., prompt_token_ids=5), "prompt_token_ids is 5; it must be a list"),
        (line(prompt=..., prompt_len_tokens=0), "prompt_len_tokens is 0; it must be >= 1"),
        (line(arrival_s=...), "arrival_s is missing; every line needs id, arrival_s, max_new_tokens"),
        (
            line(arrival_s=..., arival_s=0),
            'unknown key "arival_s"; keys are id, arrival_s, max_new_tokens, prompt, prompt_token_ids, '
            "prompt_len_tokens, ignore_eos, category, seed, hash_ids",
        ),
        (line(prompt=["x" * 100]), 'prompt is ["' + "x" * 55 + "...; it must be a string"),
        ('{"id": "a",', "not JSON: EOF while parsing a value at column 11"),
        ("id,arrival_s", "not JSON: expected value at column 1"),
        ('{"id": "\\ud800"}', "not JSON: unexpected end of hex escape at column 15"),
        ("[1]", "[1] is not a JSON object; its keys would be " + ", ".join(RequestLine.model_fields)),
    ],
)
def test_a_bad_line_is_named_with_what_would_be_right(tmp_path: Path, bad: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    good = [line(id=f"good-{number}") for number in range(1, 17)]
    path.write_text("\n".join([*good, bad, line(id="after")]), encoding="utf-8")
    assert error_of(path) == f"{path}:17: {message}"


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([line(id="x"), "", line(id="a"), line(id="y"), line(id="a")]))
    assert error_of(path) == f'{path}:5: duplicate id "a" (first on line 3)'


def test_a_missing_file_lists_the_traces_beside_it_the_most_similar_first(tmp_path: Path) -> None:
    for name in ("azure.jsonl", "mixed.jsonl", "notes.txt"):
        (tmp_path / name).write_text("x")
    path = tmp_path / "mixd.jsonl"
    assert error_of(path) == f"{path}: no such file; traces in {tmp_path}: mixed.jsonl, azure.jsonl"


def test_a_missing_file_in_a_large_folder_lists_only_some(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02d}.jsonl").write_text("x")
    assert error_of(tmp_path / "zzz.jsonl").endswith("06.jsonl, 07.jsonl and 12 more")


def test_a_missing_folder_and_one_without_traces_are_said(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "x.jsonl"
    assert error_of(path) == f"{path}: no such file; its folder {tmp_path / 'gone'} does not exist either"
    path = tmp_path / "x.jsonl"
    assert error_of(path) == f"{path}: no such file; {tmp_path} holds no file that ends in .jsonl, .json, .csv or .yaml"


def test_a_folder_lists_its_traces(tmp_path: Path) -> None:
    (tmp_path / "mixed.jsonl").write_text("x")
    assert error_of(tmp_path) == f"{tmp_path}: is a folder, not a trace file; traces in {tmp_path}: mixed.jsonl"


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert error_of(path) == f"{path}: is empty; a trace needs at least one request"


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(f"{line()}\n".encode() + '{"id": "é"}'.encode("latin-1"))
    assert error_of(path) == f"{path}:2: not UTF-8 (byte 0xe9); save the file as UTF-8"


def test_a_path_through_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "x.jsonl"
    assert error_of(path) == f"{path}: cannot be read: Not a directory"
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        write_trace([Request("a", 0.0, 1, prompt="x")], path)


# Unicode line separators included: they are no line ends of a JSONL file.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
prompts = st.one_of(
    st.fixed_dictionaries({"prompt": texts}),
    st.fixed_dictionaries(
        {"prompt_token_ids": st.lists(st.integers(0, MAX_TOKENS), min_size=1, max_size=5).map(tuple)}
    ),
    st.fixed_dictionaries({"prompt_len_tokens": st.integers(1, MAX_TOKENS)}),
)
requests = st.builds(
    lambda prompt, **rest: Request(**rest, **prompt),
    prompt=prompts,
    id=texts,
    arrival_s=st.floats(0, 1e9),
    max_new_tokens=st.integers(1, MAX_TOKENS),
    ignore_eos=st.booleans(),
    category=st.none() | texts,
    seed=st.integers(0, 2**63 - 1),
    hash_ids=st.none() | st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple),
)
request_lists = st.lists(requests, min_size=1, max_size=8, unique_by=lambda request: request.id)


@given(request_lists)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, written: list[Request]) -> None:
    path = tmp_path_factory.mktemp("trace") / "x.jsonl"
    write_trace(written, path)
    assert read_trace(path).requests == tuple(sorted(written, key=lambda request: request.arrival_s))
    assert [entry.name for entry in path.parent.iterdir()] == ["x.jsonl"]


def test_defaults_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_trace([Request("a", 0.0, 8, prompt="é")], path)
    assert path.read_text(encoding="utf-8") == '{"id": "a", "arrival_s": 0.0, "max_new_tokens": 8, "prompt": "é"}\n'


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "a trace needs at least one request"),
        ([Request("a", 0.0, 8, prompt="x"), Request("a", 1.0, 8, prompt="y")], 'x.jsonl:2: duplicate id "a"'),
        ([Request("a", float("nan"), 8, prompt="x")], "x.jsonl:1: arrival_s is NaN"),
        ([Request("a", 0.0, 8)], "x.jsonl:1: a request needs exactly one of"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, bad: list[Request], message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("before")
    with pytest.raises(UserError, match=message):
        write_trace(bad, path)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_half_a_surrogate_pair_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.jsonl:1: holds half of a surrogate pair, which is no Unicode text$"):
        write_trace([Request("a", 0.0, 8, prompt="\ud800")], tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        write_trace([Request("a", 0.0, 8, prompt="x")], tmp_path / "x.jsonl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.jsonl"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(RequestLine.model_fields)), inner),
    max_leaves=10,
)


def refusal_of(text: str) -> str | None:
    try:
        read_requests(TraceFile(path=Path("x.jsonl"), text=text, sha256=""))
    except UserError as error:
        return str(error)
    return None


@given(st.lists(st.text(max_size=30) | json_values.map(json.dumps), min_size=1, max_size=4))
def test_any_text_is_read_or_refused_in_one_line(lines: list[str]) -> None:
    message = refusal_of("\n".join(lines))
    assert message is None or (message.startswith("x.jsonl:") and "\n" not in message)
