import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.models import checkpoint as checkpoint_module
from spinbench.models.checkpoint import looks_like_path
from spinbench.models.load import load_drafter, load_target, macs_per_token
from tests.models.tiny_models import save_model, tiny_llama

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_llama(), tmp_path_factory.mktemp("models") / "tiny")


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_target_from_a_folder(tiny: Path, dtype: torch.dtype) -> None:
    target = load_target(str(tiny), dtype, CPU)
    assert (target.name, target.kind, target.tokenizer) == (str(tiny), "path", None)
    assert target.model.dtype == dtype
    assert not target.model.training
    assert not any(parameter.requires_grad for parameter in target.model.parameters())
    assert target.eos_token_ids == {2}
    assert target.max_model_len_tokens == 64
    assert target.weights_sha256 == file_sha256(tiny / "model.safetensors")
    assert target.vocab_size == target.model.config.vocab_size


@pytest.mark.parametrize(("generation_eos", "expected"), [([2, 5], {2, 5}), (7, {7}), (None, {2})])
def test_end_tokens_come_from_the_generation_config_first(
    tiny: Path, tmp_path: Path, generation_eos: list[int] | int | None, expected: set[int]
) -> None:
    folder = copy_of(tiny, tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation_eos}))
    assert load_target(str(folder), torch.float32, CPU).eos_token_ids == expected


def test_loading_is_silent(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_target(str(tiny), torch.float32, CPU)
    assert capfd.readouterr() == ("", "")


def test_sharded_weights_hash_over_all_files(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    before = load_target(str(tmp_path / "a"), torch.float32, CPU).weights_sha256
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    model.save_pretrained(tmp_path / "b", max_shard_size="20KB")
    assert before != load_target(str(tmp_path / "b"), torch.float32, CPU).weights_sha256
    assert before == load_target(str(tmp_path / "a"), torch.float32, CPU).weights_sha256


def break_nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


def break_config_gone(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_config_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def break_model_type(folder: Path) -> None:
    edit_config(folder, model_type="nothing-known")


def break_weights_gone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_weights_cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def break_weights_garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a model" * 100)


def break_layer_missing(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=3, layer_types=None)


def break_shape(folder: Path) -> None:
    edit_config(folder, intermediate_size=48)


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_nothing_there, "no such folder"),
        (break_config_gone, "no config.json in it"),
        (break_config_json, "not a valid JSON file"),
        (break_model_type, "nothing-known"),
        (break_weights_gone, "no file named model.safetensors"),
        (break_weights_cut, "corrupt or cut short"),
        (break_weights_garbage, "corrupt or cut short"),
        (break_layer_missing, r"lacks model\.layers\.2\..* and 8 more"),
        (break_shape, r"wrong shape of model\.layers\.0\.mlp\..* and 5 more"),
        (break_tokenizer, "its tokenizer cannot be loaded"),
    ],
)
def test_broken_folders_are_named_in_one_line(tiny: Path, tmp_path: Path, damage, message: str) -> None:
    folder = copy_of(tiny, tmp_path)
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_target(str(folder), torch.float32, CPU)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model_folder(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"this is a file; give the model's folder"):
        load_target(str(tiny / "config.json"), torch.float32, CPU)


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def model_info(self, *_args: object, **_kwargs: object) -> None:
            raise ConnectionError("Name or service not known\nsecond line")

    monkeypatch.setattr(checkpoint_module, "HfApi", Unreachable)
    with pytest.raises(UserError, match=r"target 'nobody/nothing-here': no folder of that name here.*not known\)$"):
        load_target("nobody/nothing-here", torch.float32, CPU)


@pytest.mark.parametrize(
    ("spec", "is_path"),
    [
        ("gpt2", False),
        ("owner/name-1.5b", False),
        ("./x", True),
        ("/x", True),
        ("~/x", True),
        ("a/b/c", True),
        ("a/b/", True),
    ],
)
def test_paths_and_hub_ids(spec: str, is_path: bool) -> None:
    assert looks_like_path(spec) is is_path


def test_drafter_from_a_model_folder(tiny: Path) -> None:
    target = load_target(str(tiny), torch.float64, CPU)
    drafter = load_drafter(str(tiny), target)
    assert drafter.target_ids is None
    assert drafter.model.dtype == torch.float64
    ids = torch.arange(3, 20)[None]
    assert torch.equal(drafter.model(ids).logits, target.model(ids).logits)


def test_drafter_with_another_vocabulary(tiny: Path, tmp_path: Path) -> None:
    other = save_model(tiny_llama(vocab_size=100), tmp_path / "other")
    target = load_target(str(tiny), torch.float32, CPU)
    with pytest.raises(UserError, match=rf"vocabulary of 100 tokens, target .* has {target.vocab_size}"):
        load_drafter(str(other), target)


def test_unknown_drafter_lists_the_packaged_ones(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def model_info(self, *_args: object, **_kwargs: object) -> None:
            raise ConnectionError("unreachable")

    monkeypatch.setattr(checkpoint_module, "HfApi", Unreachable)
    target = load_target(str(tiny), torch.float32, CPU)
    with pytest.raises(UserError, match=r"^drafter \(packaged: .*\) 'smol-typo': no folder of that name"):
        load_drafter("smol-typo", target)


def test_multiply_adds() -> None:
    # a layer: q 32*32, k and v 32*16 each, o 32*32, mlp 3 * 32*64 = 9216; two layers 18432; head 32*263 = 8416
    assert macs_per_token(tiny_llama(vocab_size=263)) == 2 * 9216 + 8416
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=8))
    # Conv1D: attention 16*48 + 16*16, mlp 16*64 * 2 = 3072; head 16*50 = 800
    assert macs_per_token(gpt2) == 3072 + 800
    opt = OPTForCausalLM(
        OPTConfig(
            vocab_size=50, hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=8
        )
    )
    # attention 4 * 16*16, mlp 2 * 16*32, in and out of the narrower embedding 2 * 8*16, head 8*50
    assert macs_per_token(opt) == 1024 + 1024 + 256 + 400
    assert macs_per_token(nn.Linear(3, 4)) == 12


@pytest.mark.smollm2
def test_embedded_target_answers_sensibly() -> None:
    target = load_target("smollm2-135m-instruct", torch.float32, CPU)
    assert target.kind == "embedded"
    assert target.eos_token_ids == {2}
    assert target.max_model_len_tokens == 8192
    assert target.tokenizer is not None
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = target.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = target.model.generate(**ids, max_new_tokens=12, do_sample=False)  # type: ignore[operator]
    assert "Paris" in target.tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])
