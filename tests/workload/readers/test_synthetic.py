from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.workload.load import load_trace
from spinbench.workload.readers.synthetic import read_synthetic
from spinbench.workload.request import Request
from spinbench.workload.trace_file import TraceFile
from spinbench.workload.trace_options import TraceOptions

SHIPPED = Path(__file__).parents[3] / "traces" / "synthetic_chat.yaml"
GOOD = """\
# two of a kind
requests: 2
prompt_tokens: {law: fixed, tokens: 5}
output_tokens:
  law: uniform
  min_tokens: 3
  max_tokens: 3
"""


def test_reads_the_laws(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD)
    assert load_trace(path, "synthetic", TraceOptions()).requests == tuple(
        Request(f"synthetic-{number}", 0.0, 3, prompt_len_tokens=5, ignore_eos=True, seed=number) for number in range(2)
    )


def test_options_apply_as_to_any_trace() -> None:
    whole = load_trace(SHIPPED, "synthetic", TraceOptions())
    assert len(whole.requests) == 1000
    part = load_trace(SHIPPED, "synthetic", TraceOptions(num_prompts=10, max_prompt_tokens=500, max_output_tokens=50))
    assert part.dropped_requests == 990
    assert {request.id for request in part.requests} < {request.id for request in whole.requests}
    assert all((request.prompt_len_tokens or 0) <= 500 and request.max_new_tokens <= 50 for request in part.requests)


def test_the_shipped_file_draws_what_the_readme_says() -> None:
    requests = load_trace(SHIPPED, "synthetic", TraceOptions()).requests
    prompts = sorted(request.prompt_len_tokens or 0 for request in requests)
    drawn = f"{prompts[0]}, {(prompts[499] + prompts[500]) / 2:.0f}, {sum(prompts) / 1000:,.0f}, {prompts[-1]:,} tokens"
    readme = " ".join((SHIPPED.parent / "README.md").read_text().split())
    assert drawn in readme
    answers = sum(request.max_new_tokens for request in requests)
    assert f"{sum(prompts):,} prompt tokens and {answers:,} answer tokens" in readme
    assert f"the last request after {requests[-1].arrival_s:.1f} s" in readme


@pytest.mark.parametrize(
    ("change", "line_number", "message"),
    [
        (("requests: 2", "requests: many"), 2, 'requests is "many"; input should be a valid integer'),
        (("requests: 2", "requests: 0"), 2, 'requests is "0"; input should be greater than or equal to 1'),
        (("requests: 2", "seed: 1"), 2, "requests is missing"),
        (("requests: 2", "requests: 2\nrate: 3"), 3, 'unknown key "rate"'),
        (("requests: 2", "requests: 2\nrequest_rate: .inf"), 3, 'request_rate is ".inf"; input should be'),
        (("requests: 2", "requests: 2\nrequest_rate: 0"), 3, 'request_rate is "0"; input should be greater'),
        (("requests: 2", "requests: 2\nrequests: 3"), 3, 'the key "requests" is there twice'),
        (("requests: 2", "requests: [2]"), 2, "requests must be a number, a text or a few keys and values"),
        (("requests: 2", "? [a]\n: b"), 2, "a key must be a single word"),
        (("tokens: 5", "tokens: 5, max_tokens: 9"), 3, 'unknown key "prompt_tokens.max_tokens"'),
        (("law: fixed", "law: normal"), 3, "prompt_tokens: input tag 'normal' found using 'law' does not match any"),
        (("law: fixed, ", ""), 3, "prompt_tokens: unable to extract tag using discriminator 'law'"),
        (("{law: fixed, tokens: 5}", "5"), 3, 'prompt_tokens is "5"; '),
        (("law: uniform", "law: lognormal"), 4, "output_tokens.median_tokens is missing"),
        (("min_tokens: 3", "min_tokens: 4"), 4, "output_tokens: min_tokens is 4; it must be <= max_tokens (3)"),
        (("max_tokens: 3", "max_tokens: 3x"), 7, 'output_tokens.max_tokens is "3x"; input should be a valid integer'),
        (
            ("law: uniform", "law: 'uniform"),
            8,
            "not YAML: found unexpected end of stream while scanning a quoted scalar from line 5 on",
        ),
        (("law: uniform", 'law: "\\ud800"'), 5, "holds half of a surrogate pair"),
        (("law: uniform", "law: &a {b: *a}"), 5, "b must be a number, a text or a few keys and values"),
        (("law: uniform", 'law: "\\UFFFFFFFF"'), 1, "not YAML that can be read: a wrong escape or nesting too deep"),
        (("law: uniform", "law: a\0b"), 1, "not YAML: unacceptable character"),
    ],
)
def test_a_mistake_is_named_with_its_line(change: tuple[str, str], line_number: int, message: str) -> None:
    assert refusal_of(GOOD.replace(*change)).startswith(f"x.yaml:{line_number}: {message}")


@pytest.mark.parametrize("text", ["# nothing", "- 1", "word"])
def test_what_has_no_keys_is_said(text: str) -> None:
    assert refusal_of(text).startswith(
        "x.yaml:1: the file must hold keys and values; the keys are requests, prompt_tokens,"
    )


def refusal_of(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read_synthetic(TraceFile(path=Path("x.yaml"), text=text, sha256=""), TraceOptions())
    assert "\n" not in str(caught.value)
    return str(caught.value)


lines = st.sampled_from(GOOD.splitlines())
pieces = st.sampled_from(
    ["&a ", "*a", "{", "}", "[", "]", '"\\ud800"', "!!int ", "<<: ", "---", "%YAML 9", ": ", "? ", "-1", "\t"]
)


@given(st.lists(lines | st.builds(str.__add__, lines, pieces | st.text(max_size=5)) | pieces, max_size=9))
def test_any_yaml_is_read_or_refused_in_one_line(parts: list[str]) -> None:
    file = TraceFile(path=Path("x.yaml"), text="\n".join(parts), sha256="")
    try:
        message = None if read_synthetic(file, TraceOptions()).requests else "no request"
    except UserError as error:
        message = str(error)
    assert message is None or (message.startswith("x.yaml:") and "\n" not in message)
