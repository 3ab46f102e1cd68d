import json
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.request import Request
from spinbench.workload.trace_options import TraceOptions


def conversation(*turns: tuple[str, str], **more: object) -> dict[str, object]:
    return {"id": "x_0", "conversations": [{"from": speaker, "value": text} for speaker, text in turns], **more}


def file_of(folder: Path, text: str) -> Path:
    path = folder / "x.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 2])
def test_asks_the_first_human_turn(tmp_path: Path, indent: int | None) -> None:
    conversations = [
        conversation(("human", "Why?"), ("gpt", "Because.")),
        conversation(("system", "Be kind."), ("user", "Grüße"), ("gpt", "Hi.")),
        conversation(("gpt", "Only an answer.")),
        conversation(),
        conversation(("human", " \n"), ("human", "Later.")),
        conversation(("human", "How long?"), output_length=7),
    ]
    trace = load_trace(
        file_of(tmp_path, json.dumps(conversations, indent=indent)), "sharegpt", TraceOptions(default_max_new_tokens=32)
    )
    assert trace.requests == (
        Request("sharegpt-0", 0.0, 32, prompt="Why?", seed=0),
        Request("sharegpt-1", 0.0, 32, prompt="Grüße", seed=1),
        Request("sharegpt-5", 0.0, 7, prompt="How long?", seed=5),
    )
    assert trace.dropped_requests == 3


GOOD = json.dumps(conversation(("human", "Why?")))


@pytest.mark.parametrize(
    ("text", "line_number", "message"),
    [
        ("{}", 1, 'the file begins with "{}"; it must be a JSON array, [...]'),
        ("\n[ ]", 2, "the array is empty; a trace needs at least one request"),
        (f"[\n{GOOD},\n{{]", 3, "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (f"[\n{GOOD}\n{GOOD}]", 3, "an item of the array must be followed by , or ]"),
        (f"[{GOOD}\n", 2, "an item of the array must be followed by , or ]"),
        (f"[{GOOD},\n", 2, "not JSON: Expecting value at column 1"),
        (f"[{GOOD},\n]", 2, "not JSON: Expecting value at column 1"),
        (f"[{GOOD}]\n\nx", 3, "nothing may follow the array"),
        (f"[{GOOD},\n{'[' * 100_000}", 2, "not JSON that can be read: a number too long or nesting too deep"),
        (f"[{GOOD},\n{'1' * 5000}]", 2, "not JSON that can be read: a number too long or nesting too deep"),
        (f"[{GOOD},\n\n7]", 3, "7 is not a JSON object; its keys would be conversations, output_length"),
        (f"[{GOOD},\n{{}}]", 2, "conversations is missing; every line needs conversations"),
        (f'[{GOOD},\n{{"conversations": 3}}]', 2, "conversations is 3; it must be a list"),
        (f'[{GOOD},\n{{"conversations": [3]}}]', 2, "conversations[0] is 3; it must be a JSON object"),
        (f'[{GOOD},\n{{"conversations":\n[{{"from": "gpt"}}]}}]', 2, "conversations[0].value is missing"),
        (
            f'[{GOOD},\n{{"conversations": [{{"from": 1, "value": ""}}]}}]',
            2,
            "conversations[0].from is 1; it must be a string",
        ),
        (
            f'[{GOOD},\n{{"conversations": [{{"from": "human", "value": "\\ud800"}}]}}]',
            2,
            "holds half of a surrogate pair, which is no Unicode text",
        ),
        (f'[{GOOD},\n{{"\\udc00": 1}}]', 2, "holds half of a surrogate pair, which is no Unicode text"),
        (f'[{GOOD},\n{{"conversations": [], "output_length": 0}}]', 2, "output_length is 0; it must be >= 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line_number: int, message: str) -> None:
    path = file_of(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_trace(path, "sharegpt", TraceOptions())
    assert str(caught.value) == f"{path}:{line_number}: {message}"


def test_whole_surrogate_pairs_are_text(tmp_path: Path) -> None:
    text = json.dumps([conversation(("human", "\U0001f600"))])
    assert "\\ud83d" in text
    assert load_trace(file_of(tmp_path, text), "sharegpt", TraceOptions()).requests[0].prompt == "\U0001f600"
