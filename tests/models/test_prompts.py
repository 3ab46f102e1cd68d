from dataclasses import replace

import pytest
import torch
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.models.gguf_tokenizer import tokenizer_from_gguf
from spinbench.models.load import load_target
from spinbench.models.loaded_model import TargetModel
from spinbench.models.prompts import tokenize_requests
from spinbench.workload.request import Request
from tests.models.tiny_models import save_model, tiny_llama, write_gguf


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    root = tmp_path_factory.mktemp("models")
    model = tiny_llama()
    folder = save_model(model, root / "tiny")
    gguf = write_gguf(model, root / "tiny.gguf")
    fields = {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}
    tokenizer_from_gguf(fields).save_pretrained(folder)
    return load_target(str(folder), torch.float32, torch.device("cpu"))


def request(id: str = "r", max_new_tokens: int = 8, **source: object) -> Request:
    return Request(id=id, arrival_s=0.0, max_new_tokens=max_new_tokens, **source)  # type: ignore[arg-type]


def text_of(target: TargetModel, ids: tuple[int, ...]) -> str:
    assert target.tokenizer is not None
    text = target.tokenizer.decode(list(ids))
    assert isinstance(text, str)
    return text


def test_text_becomes_the_users_turn(target: TargetModel) -> None:
    (ids,) = tokenize_requests([request(prompt="the end")], target, use_chat_template=True)
    assert text_of(target, ids) == "<|im_start|>user\nthe end<|im_end|>\n<|im_start|>assistant\n"
    assert (ids.count(1), ids.count(2)) == (2, 1)  # special tokens are single ids


def test_text_without_template(target: TargetModel) -> None:
    (ids,) = tokenize_requests([request(prompt="the end")], target, use_chat_template=False)
    assert text_of(target, ids) == "the end"
    assert 1 not in ids


def test_template_wanted_but_absent_gives_plain_text(target: TargetModel) -> None:
    assert target.tokenizer is not None
    template, target.tokenizer.chat_template = target.tokenizer.chat_template, None
    try:
        (ids,) = tokenize_requests([request(prompt="the end")], target, use_chat_template=True)
    finally:
        target.tokenizer.chat_template = template
    assert text_of(target, ids) == "the end"


def test_sources_keep_their_order(target: TargetModel) -> None:
    requests = [
        request("a", prompt="one"),
        request("b", prompt_token_ids=(9, 8, 7)),
        request("c", prompt_len_tokens=5),
        request("d", prompt="two"),
    ]
    prompts = tokenize_requests(requests, target, use_chat_template=False)
    assert text_of(target, prompts[0]) == "one"
    assert prompts[1] == (9, 8, 7)
    assert len(prompts[2]) == 5
    assert text_of(target, prompts[3]) == "two"


@given(length=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_drawn_ids_are_text_and_follow_the_seed(target: TargetModel, length: int, seed: int) -> None:
    asked = request(prompt_len_tokens=length, seed=seed)
    first, again, other = tokenize_requests([asked, asked, replace(asked, seed=seed + 1)], target, True)
    assert first == again
    assert len(first) == len(other) == length
    assert all(3 <= token < target.vocab_size for token in first)  # 0, 1 and 2 are special
    if length > 10:
        assert first != other


def test_drawn_ids_cover_the_vocabulary(target: TargetModel) -> None:
    requests = [request(prompt_len_tokens=50, seed=seed) for seed in range(200)]
    drawn = {token for ids in tokenize_requests(requests, target, True) for token in ids}
    assert drawn == set(range(3, target.vocab_size))


def test_prompt_and_answer_must_fit_the_context(target: TargetModel) -> None:
    fits = request("fits", max_new_tokens=14, prompt_len_tokens=50)
    tokenize_requests([fits], target, True)  # 50 + 14 = 64
    with pytest.raises(UserError, match=r"'long': 50 prompt tokens \+ max_new_tokens 15 = 65, more than the 64 tokens"):
        tokenize_requests([fits, replace(fits, id="long", max_new_tokens=15)], target, True)


def test_long_text_is_refused_without_noise(target: TargetModel, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"'r': 100 prompt tokens"):
        tokenize_requests([request(prompt="x" * 100)], target, use_chat_template=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("token", [-1, 100_000])
def test_ids_outside_the_vocabulary(target: TargetModel, token: int) -> None:
    with pytest.raises(
        UserError, match=rf"'r': token id {token} is outside the vocabulary .*\(0 to {target.vocab_size - 1}\)"
    ):
        tokenize_requests([request(prompt_token_ids=(5, token))], target, True)


def test_empty_prompt(target: TargetModel) -> None:
    with pytest.raises(UserError, match="its prompt has no token"):
        tokenize_requests([request(prompt="")], target, use_chat_template=False)


def test_text_needs_a_tokenizer(target: TargetModel) -> None:
    bare = replace(target, tokenizer=None)
    with pytest.raises(UserError, match=r"has no tokenizer, but the trace holds prompts as text"):
        tokenize_requests([request(prompt="hello")], bare, True)
    (ids,) = tokenize_requests([request(prompt_len_tokens=4)], bare, True)
    assert len(ids) == 4
