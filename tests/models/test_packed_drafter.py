import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from spinbench.errors import UserError
from spinbench.models.load import load_drafter, load_target
from spinbench.models.loaded_model import TargetModel
from spinbench.models.packed_drafter import packaged_drafters
from tests.models.tiny_models import save_model, tiny_llama, write_packed_drafter

VOCAB, TARGET_WIDTH = 120, 32
TARGET_IDS = [2, 5, 7, 40, 41, 90, 119]


@pytest.fixture(scope="module")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_llama(vocab_size=VOCAB), tmp_path_factory.mktemp("models") / "target")


def load_tiny_target(folder: Path, dtype: torch.dtype = torch.float32) -> TargetModel:
    return load_target(str(folder), dtype, torch.device("cpu"))


def write(folder: Path, width: int) -> dict[str, Tensor]:
    return write_packed_drafter(folder, vocab_size=VOCAB, target_width=TARGET_WIDTH, width=width, target_ids=TARGET_IDS)


def plain_logits(weights: dict[str, Tensor], embedding: Tensor, ids: list[int]) -> Tensor:
    """The drafter written out: 2 layers, 2 heads of 8, one key head, rotary base 1000; [tokens, draft vocabulary]."""
    head_rows = embedding[TARGET_IDS]
    if "embed_projection" in weights:
        embedding = embedding @ weights["embed_projection"].T
        head_rows = head_rows @ weights["head_projection"].T

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]

    angles = torch.arange(len(ids))[:, None] / 1000.0 ** (torch.arange(0, 8, 2) / 8)

    def rotate(x: Tensor) -> Tensor:
        low, high = x[:, :4], x[:, 4:]
        return torch.cat([low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()], 1)

    future = torch.ones(len(ids), len(ids)).triu(1).bool()
    x = embedding[ids]
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        h = norm(x, f"{prefix}.input_layernorm")
        q, k, v = (h @ weights[f"{prefix}.self_attn.{name}_proj"].T for name in "qkv")
        heads = []
        for head in (q[:, :8], q[:, 8:]):
            scores = (rotate(head) @ rotate(k).T / 8**0.5).masked_fill(future, float("-inf"))
            heads.append(scores.softmax(-1) @ v)
        x = x + torch.cat(heads, 1) @ weights[f"{prefix}.self_attn.o_proj"].T
        h = norm(x, f"{prefix}.post_attention_layernorm")
        gate, up = (h @ weights[f"{prefix}.mlp.{name}_proj"].T for name in ("gate", "up"))
        x = x + (F.silu(gate) * up) @ weights[f"{prefix}.mlp.down_proj"].T
    return norm(x, "model.norm") @ head_rows.T + weights["lm_head.bias"]


@pytest.mark.parametrize("width", [16, TARGET_WIDTH], ids=["projected", "shared"])
def test_logits_are_those_of_the_stored_weights(target_folder: Path, tmp_path: Path, width: int) -> None:
    weights = write(tmp_path / "d", width)
    target = load_tiny_target(target_folder)
    drafter = load_drafter(str(tmp_path / "d"), target)
    ids = [3, 60, 119, 7, 7, 0]

    logits = drafter.model(torch.tensor([ids])).logits[0]

    expected = plain_logits(weights, target.model.get_input_embeddings().weight, ids)
    assert logits.shape == (6, 7)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert drafter.target_ids is not None
    assert drafter.target_ids.dtype == torch.int64
    assert drafter.target_ids.tolist() == TARGET_IDS
    # a layer: q 16w + k 8w + v 8w + o 16w + mlp 3*24w = 120w; two layers 240w; head 7w
    assert drafter.macs_per_token == 247 * width


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_same_width_holds_the_embedding_once(target_folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    write(tmp_path / "d", TARGET_WIDTH)
    target = load_tiny_target(target_folder, dtype)
    drafter = load_drafter(str(tmp_path / "d"), target)
    assert drafter.model.get_input_embeddings().weight is target.model.get_input_embeddings().weight
    assert {parameter.dtype for parameter in drafter.model.parameters()} == {dtype}
    assert not any(parameter.requires_grad for parameter in drafter.model.parameters())
    assert not drafter.model.training
    assert drafter.model.config.vocab_size == VOCAB


def test_loading_draws_no_random_numbers(target_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "d", 16)
    target = load_tiny_target(target_folder)
    before = torch.get_rng_state()
    load_drafter(str(tmp_path / "d"), target)
    assert torch.equal(torch.get_rng_state(), before)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "drafter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensor(folder: Path, name: str, value: Tensor | None) -> None:
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors if value is None else tensors | {name: value}, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "drafter.json").write_text("{"), r"drafter\.json: the file: invalid JSON"),
        (lambda d: edit(d, format=2), r"drafter\.json: format: input should be 1"),
        (lambda d: edit(d, colour="red"), r"drafter\.json: colour: extra inputs are not permitted"),
        (lambda d: edit(d, draft_vocab_size=0), r"drafter\.json: draft_vocab_size: .*greater than or equal to 1"),
        (lambda d: (d / "weights.safetensors").unlink(), r"weights\.safetensors: no such file"),
        (lambda d: cut(d / "weights.safetensors"), r"weights\.safetensors: corrupt or cut short"),
        (lambda d: edit_tensor(d, "model.norm.weight", None), r"tensor 'model\.norm\.weight' is missing"),
        (
            lambda d: edit_tensor(d, "embed_projection.scale", torch.ones(3)),
            r"'embed_projection\.scale' is \(3,\), .* \(16,\)",
        ),
        (lambda d: edit_tensor(d, "target_ids", torch.tensor([1, 2, 3, 4, 5, 6, 120])), r"7 different ids below 120"),
        (lambda d: edit_tensor(d, "target_ids", torch.tensor([1, 2, 3, 4, 5, 6, 6])), r"7 different ids below 120"),
        (lambda d: edit(d, projected=False), r"shares the 16 wide embedding of 'tiny', that of target .* is 32 wide"),
    ],
)
def test_damaged_folders_are_named_in_one_line(target_folder: Path, tmp_path: Path, damage, message: str) -> None:
    write(tmp_path / "d", 16)
    damage(tmp_path / "d")
    with pytest.raises(UserError, match=message) as caught:
        load_drafter(str(tmp_path / "d"), load_tiny_target(target_folder))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "d") in str(caught.value)


def test_drafter_of_another_target(tmp_path: Path) -> None:
    write(tmp_path / "d", 16)
    other = load_tiny_target(save_model(tiny_llama(vocab_size=130), tmp_path / "other"))
    with pytest.raises(UserError, match=r"made for 'tiny' with 120 tokens, target '.*other' has 130"):
        load_drafter(str(tmp_path / "d"), other)


def test_narrower_target_than_the_projection_expects(tmp_path: Path) -> None:
    write(tmp_path / "d", 16)
    other = load_tiny_target(save_model(tiny_llama(vocab_size=VOCAB, width=24), tmp_path / "other"))
    with pytest.raises(UserError, match=r"'embed_projection\.q' is \(16, 32\), drafter\.json asks for \(16, 24\)"):
        load_drafter(str(tmp_path / "d"), other)


@pytest.mark.smollm2
@pytest.mark.parametrize("name", packaged_drafters())
def test_packaged_drafters_load(name: str) -> None:
    target = load_target("smollm2-135m-instruct", torch.float32, torch.device("cpu"))
    drafter = load_drafter(name, target)
    assert drafter.target_ids is not None
    assert 0 < drafter.macs_per_token < 0.12 * 134_500_000  # the target's multiply-adds
    logits = drafter.model(torch.tensor([[1, 4093, 198]])).logits
    assert logits.shape == (1, 3, len(drafter.target_ids))
    assert logits.isfinite().all()
