import json
from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from spinbench.errors import UserError
from spinbench.models.fetch import fetch_default_model
from spinbench.models.gguf_tokenizer import tokenizer_from_gguf
from tests.models.tiny_models import TOKENS, tiny_llama, write_gguf

SELFPLAY = Path(__file__).resolve().parents[3] / "shared" / "data" / "smollm2_selfplay.jsonl"
SAMPLES = {
    "prose": "It was the best of times; it was the worst of times -- “so to speak”.\n\nWasn't it?  Two spaces, and a tab:\t.",
    "code": "def f(x: int) -> int:\n    return x**2 + 0x1F  # comment\n\n\tif (a && b) { return !c; }\r\n",
    "unicode": "Grüße aus Köln, 東京から, с приветом, مرحبا, ∑ᵢ xᵢ² ≤ ∞, e\u0301 combining",
    "emoji": "ok 👍🏽 family 👨‍👩‍👧‍👦 flag 🇫🇷 heart ❤️",
    "digits": "1234567890 + 3.14159 = 2024-11-24 10:05",
    "edges": "  leading and trailing  \n",
}


def fields_of(path: Path) -> dict:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    path = write_gguf(tiny_llama(), tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    return tokenizer_from_gguf(fields_of(path))


@pytest.fixture(scope="module")
def smollm2() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(fetch_default_model())


@given(text=st.text())
def test_any_text_round_trips(tiny: PreTrainedTokenizerBase, text: str) -> None:
    if any(special in text for special in TOKENS[:3]):
        return
    assert tiny.decode(tiny(text)["input_ids"]) == text


def test_merges_digits_and_special_tokens(tiny: PreTrainedTokenizerBase) -> None:
    id_of = {token: index for index, token in enumerate(TOKENS)}
    assert tiny(" the")["input_ids"] == [id_of["Ġthe"]]
    # the merge "1 2" never applies: digits are split before merging
    assert tiny("12")["input_ids"] == [id_of["1"], id_of["2"]]
    assert tiny("<|im_start|>the<|im_end|>")["input_ids"] == [1, id_of["the"], 2]
    assert (tiny.bos_token_id, tiny.eos_token_id, tiny.pad_token_id) == (1, 2, 2)
    assert len(tiny) == len(TOKENS)


def test_saved_tokenizer_is_the_same(tiny: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in SAMPLES.values():
        assert loaded(text)["input_ids"] == tiny(text)["input_ids"]
    assert loaded.chat_template == tiny.chat_template
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (1, 2, 2)


def test_another_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tiny_llama(), tmp_path / "tiny.gguf", pre="qwen2")
    with pytest.raises(UserError, match=r"pre-tokenizer 'qwen2'; only 'gpt2' with 'smollm'"):
        tokenizer_from_gguf(fields_of(path))


@pytest.mark.smollm2
@pytest.mark.parametrize("kind", SAMPLES)
def test_smollm2_round_trips(smollm2: PreTrainedTokenizerBase, kind: str) -> None:
    assert smollm2.decode(smollm2(SAMPLES[kind])["input_ids"]) == SAMPLES[kind]


@pytest.mark.smollm2
def test_smollm2_known_ids(smollm2: PreTrainedTokenizerBase) -> None:
    assert len(smollm2) == 49152
    assert len(smollm2("2024")["input_ids"]) == 4
    chat = smollm2.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    # system, user and assistant turns begin with <|im_start|> (1); the first two end with <|im_end|> (2)
    assert (chat.count(1), chat.count(2)) == (3, 2)
    assert chat[:3] == [1, 9690, 198]  # <|im_start|> "system" "\n"
    assert chat[-3:] == [1, 520, 9531, 198][-3:]  # "ass" "istant" "\n"


@pytest.mark.smollm2
@pytest.mark.skipif(not SELFPLAY.exists(), reason="needs the self-play tokens beside the checkout")
def test_smollm2_gives_the_ids_that_the_original_tokenizer_gave(smollm2: PreTrainedTokenizerBase) -> None:
    with SELFPLAY.open() as file:
        rows = [json.loads(line) for line, _ in zip(file, range(2000), strict=False)]
    same = 0
    for prompt_len, tokens in rows:
        text = smollm2.decode(tokens[:prompt_len])
        same += smollm2(text)["input_ids"] == tokens[:prompt_len]
    # the user's turn was sampled token by token, so a few are not spelled as a tokenizer would spell them
    print(f"same ids for {same} of {len(rows)} prompts")
    assert same >= 0.9 * len(rows)
