"""An inflated model says what the small one says, at the cost of the large one."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from spinbench.cli.locations import shipped_folder
from spinbench.errors import UserError
from spinbench.models.inflate import HeadPlaces, inflate
from spinbench.models.load import load_drafter, load_target, macs_per_token
from spinbench.models.model_shape import SHAPES, ModelShape, find_shape, inflated_parts, llama_shape
from spinbench.models.packed_drafter import PACKAGED_FOLDER, read_description
from spinbench.models.shape_model import shape_model
from tests.models.tiny_models import save_model, tiny_llama, write_packed_drafter

CPU = torch.device("cpu")
TOKENS = torch.tensor([[5, 9, 2, 40, 41, 7, 7, 30]])


def _exact_norm(norm: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    return norm.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon)


def shape(layers: int, heads: int, kv_heads: int, head_dim: int, intermediate: int = 80) -> ModelShape:
    return llama_shape("large", layers, heads * head_dim, intermediate, heads, kv_heads, "made up", vocab_size=77)


def base(**config: object) -> LlamaForCausalLM:
    """4 query heads of 8 numbers, 2 key heads, 32 wide, an MLP of 64, 2 layers."""
    model = tiny_llama(rms_norm_eps=1e-2, rope_theta=300.0, **config).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    "large",
    [
        shape(2, 4, 2, 8, 64),  # the same sizes
        shape(3, 4, 4, 16),  # a key head for every query head, heads twice as large, a layer more
        shape(5, 12, 4, 8),  # three query heads a key head
        shape(2, 10, 5, 32),  # heads four times as large
        shape(4, 15, 5, 24),  # three times
    ],
    ids=lambda large: (
        f"{large.num_layers}x{large.hidden_size}, {large.num_heads}/{large.num_kv_heads}x{large.head_dim}"
    ),
)
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_small_model(large, tied, monkeypatch):
    small = base(tie_word_embeddings=tied)
    model = inflate(small, large)
    assert model.config.hidden_size == large.hidden_size
    assert macs_per_token(model) == large.layer_macs + large.hidden_size * small.config.vocab_size
    expected = small(TOKENS, use_cache=False).logits
    # transformers' norms are in float32, whatever the model's dtype
    torch.testing.assert_close(model(TOKENS, use_cache=False).logits, expected, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(LlamaRMSNorm, "forward", _exact_norm)
    expected = small(TOKENS, use_cache=False).logits
    torch.testing.assert_close(model(TOKENS, use_cache=False).logits, expected, rtol=1e-11, atol=1e-11)


def test_what_is_added_is_really_computed():
    model = inflate(base(), shape(3, 4, 4, 16))
    layer = model.model.layers[2]
    zeros = {name for name, weight in layer.named_parameters() if not weight.any()}
    assert zeros == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}
    # a key head beyond the small model's, and the neurons behind its own
    assert model.model.layers[0].mlp.gate_proj.weight[64:].all()
    assert model.model.layers[0].self_attn.v_proj.weight.all(dim=1).sum() > 0


@pytest.mark.parametrize(
    ("large", "problem"),
    [
        (shape(1, 4, 2, 8), "layers 1 is below 2"),
        (shape(2, 2, 2, 8), "hidden size 16 is below 32"),
        (shape(2, 4, 2, 8, 40), "MLP width 40 is below 64"),
        (shape(2, 4, 2, 12), "head size 12 is no multiple of 8"),
        (shape(2, 4, 1, 8, 64), None),  # one key head for four queries: the two key heads do not fit
        (shape(2, 3, 3, 16), "it takes 4 key heads and has 3"),
    ],
)
def test_a_shape_without_room_is_refused(large, problem):
    with pytest.raises(UserError, match=problem or "it takes 2 key heads and has 1"):
        inflate(base(), large)


def test_names():
    assert inflated_parts("smollm2-135m-instruct@llama-7b-shape") == ("smollm2-135m-instruct", SHAPES["llama-7b-shape"])
    assert inflated_parts("llama-7b-shape") is None
    assert inflated_parts("me@home/model") is None
    assert find_shape("a@llama-7b-shape") is None
    with pytest.raises(UserError, match="there is no shape 'llama-8b-shape'"):
        inflated_parts("x@llama-8b-shape")


def test_sizes_of_named_shapes_come_back():
    assert SHAPES["llama-7b-shape"].intermediate_size == 11_008
    assert SHAPES["llama-1.1b-shape"].intermediate_size == 5632
    model = shape_model(shape(2, 4, 2, 8, 24), torch.bfloat16, CPU)
    assert macs_per_token(model) == shape(2, 4, 2, 8, 24).macs_per_token
    assert model.dtype == torch.bfloat16
    assert model(TOKENS, use_cache=False).logits.isfinite().all()


def test_targets_and_drafters_are_loaded_by_such_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for made in (shape(3, 8, 4, 8), llama_shape("other", 2, 32, 48, 4, 2, "made up", vocab_size=77)):
        monkeypatch.setitem(SHAPES, made.name, made)
    small = tiny_llama()
    folder = save_model(small, tmp_path / "tiny")
    target = load_target(f"{folder}@large-shape", torch.float64, CPU)
    assert (target.kind, target.trained.kind) == ("inflated", "path")
    assert target.weights_sha256 != target.trained.weights_sha256
    assert target.vocab_size == small.config.vocab_size
    # a packed drafter shares the trained model's weights
    write_packed_drafter(
        tmp_path / "packed",
        vocab_size=small.config.vocab_size,
        target_width=32,
        width=32,
        target_ids=list(range(3, 40)),
    )
    own = load_drafter(str(tmp_path / "packed"), target)
    large = load_drafter(f"{tmp_path / 'packed'}@large-shape", target)
    assert large.target_ids is not None
    torch.testing.assert_close(
        large.model(TOKENS, use_cache=False).logits, own.model(TOKENS, use_cache=False).logits, rtol=1e-3, atol=1e-4
    )
    shaped = load_target("other-shape", torch.float32, CPU)
    assert (shaped.kind, shaped.tokenizer, shaped.eos_token_ids) == ("shape", None, frozenset())
    assert load_drafter("other-shape", shaped).macs_per_token == SHAPES["other-shape"].macs_per_token
    with pytest.raises(UserError, match="vocabulary of 77 tokens"):
        load_drafter("other-shape", target)


def test_the_shipped_models_have_room_in_the_shapes_of_the_shipped_config():
    config = yaml.safe_load((shipped_folder("conf") / "models" / "inflated_7b.yaml").read_text())
    parts = [inflated_parts(name.removesuffix("+prompt_lookup")) for name in config["drafters"]]
    drafters = [part for part in parts if part is not None]
    assert len(drafters) >= 4
    for name, large in drafters:
        body = read_description(PACKAGED_FOLDER / name).config
        heads = llama_shape(
            name, body.num_hidden_layers, body.hidden_size, body.intermediate_size, body.num_attention_heads,
            body.num_key_value_heads, "drafter.json",
        )  # fmt: skip
        assert heads.head_dim == body.head_dim
        HeadPlaces.of(heads, large)
        assert body.num_hidden_layers <= large.num_layers
        assert body.intermediate_size <= large.intermediate_size
    target = inflated_parts(config["target"])
    assert target is not None
    # SmolLM2-135M: 30 layers, 9 query and 3 key heads of 64
    HeadPlaces.of(llama_shape("smollm2", 30, 576, 1536, 9, 3, "its config"), target[1])
