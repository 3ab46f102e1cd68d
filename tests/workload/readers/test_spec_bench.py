import json
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.request import Request
from spinbench.workload.trace_options import TraceOptions

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "spec_bench.jsonl"
GOOD = {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."], "reference": ["unused"]}


def file_of(folder: Path, *questions: dict[str, object]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps({**GOOD, **question}) for question in questions))
    return path


def test_asks_the_first_turn(tmp_path: Path) -> None:
    path = file_of(tmp_path, {}, {"question_id": 7, "category": "qa", "turns": ["Why?"]})
    trace = load_trace(path, "spec_bench", TraceOptions(default_max_new_tokens=32))
    assert trace.requests == (
        Request("81", 0.0, 32, prompt="Write.", category="writing", seed=0),
        Request("7", 0.0, 32, prompt="Why?", category="qa", seed=1),
    )


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"turns": []}, "turns is empty; leave it out or give at least one element"),
        ({"turns": [""]}, "turns[0] is empty; leave it out or give at least one element"),
        ({"turns": "Why?"}, 'turns is "Why?"; it must be a list'),
        ({"category": 3}, "category is 3; it must be a string"),
        ({"question_id": 81}, "duplicate question_id 81 (first on line 1)"),
        ({"question_id": "83"}, 'question_id is "83"; it must be an integer'),
        ({"question_id": True}, "question_id is true; it must be an integer"),
    ],
)
def test_a_bad_question_is_named(tmp_path: Path, question: dict[str, object], message: str) -> None:
    path = file_of(tmp_path, {}, {"question_id": 82, **question})
    with pytest.raises(UserError) as caught:
        load_trace(path, "spec_bench", TraceOptions())
    assert str(caught.value) == f"{path}:2: {message}"


@pytest.mark.skipif(not REAL.exists(), reason="Spec-Bench's questions are not part of the repository")
def test_the_real_questions() -> None:
    trace = load_trace(REAL, "spec_bench", TraceOptions())
    assert len(trace.requests) == 480
    assert len({request.category for request in trace.requests}) == 13
    coding = load_trace(REAL, "spec_bench", TraceOptions(categories=("coding",), num_prompts=4, sample_seed=0))
    assert [request.category for request in coding.requests] == ["coding"] * 4
    assert coding.dropped_requests == 476
