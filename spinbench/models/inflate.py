"""A trained Llama inside a larger one that says the same: real acceptance at the cost of the larger one.

The residual stream keeps the small model's numbers in its first places and zeros in the others, because every output
projection has zero rows there. Heads, neurons and layers that the small model lacks are computed from random weights
and meet zero columns of an output projection. Three things depend on widths and are corrected for:

- RMSNorm over D places of which d are not zero: mean(x^2) is d / D of the small one's, so weights are scaled by
  sqrt(d / D) and eps by d / D;
- attention divides scores by the square root of the head size: queries are scaled by sqrt(m) for heads m times larger;
- rotary pair i of a head of size h turns by theta^(-2i/h), which in a head m times as large is pair m * i.

A key head may serve fewer query heads than it did; it is there several times then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedModel

from spinbench.errors import UserError
from spinbench.models.model_shape import ModelShape
from spinbench.models.shape_model import empty_llama, fill_at_random, shape_config


@dataclass(frozen=True, slots=True)
class HeadPlaces:
    """Where the small model's attention lies in the larger one's."""

    query_heads: tuple[int, ...]
    """Place of each of the small model's query heads."""
    key_heads: tuple[tuple[int, int], ...]
    """Pairs: a key head of the small model, and a place where it is."""
    dims: tuple[int, ...]
    """Place of each dimension of a head."""

    @classmethod
    def of(cls, base: ModelShape, shape: ModelShape) -> "HeadPlaces":
        """Raises UserError where the larger model has no room."""
        growth, rest = divmod(shape.head_dim, base.head_dim)
        if rest or not growth:
            raise UserError(_no_room(base, shape, f"head size {shape.head_dim} is no multiple of {base.head_dim}"))
        half = base.head_dim // 2
        dims = [growth * pair for pair in range(half)]
        dims += [shape.head_dim // 2 + place for place in dims]
        base_share, share = base.num_heads // base.num_kv_heads, shape.num_heads // shape.num_kv_heads
        query_heads, key_heads = [], []
        place = 0
        for kv_head in range(base.num_kv_heads):
            for first in range(0, base_share, share):
                key_heads.append((kv_head, place))
                query_heads += [place * share + member for member in range(min(share, base_share - first))]
                place += 1
        if place > shape.num_kv_heads:
            raise UserError(_no_room(base, shape, f"it takes {place} key heads and has {shape.num_kv_heads}"))
        return cls(tuple(query_heads), tuple(key_heads), tuple(dims))


def inflate(model: PreTrainedModel, shape: ModelShape) -> LlamaForCausalLM:
    """A Llama of the sizes of `shape` with the logits of `model`, in its dtype and on its device.

    The vocabulary, and the head's bias if there is one, remain the small model's. Raises UserError for a model that is
    no Llama, or does not fit.
    """
    if not isinstance(model, LlamaForCausalLM):
        raise UserError(f"{type(model).__name__} cannot be put into {shape.name}; only Llamas can")
    base = model.config
    small = _shape_of(model)
    for what, has, needs in (
        ("hidden size", shape.hidden_size, small.hidden_size),
        ("layers", shape.num_layers, small.num_layers),
        ("MLP width", shape.intermediate_size, base.intermediate_size),
    ):
        if has < needs:
            raise UserError(_no_room(small, shape, f"{what} {has} is below {needs}"))
    places = HeadPlaces.of(small, shape)
    config = shape_config(
        shape,
        vocab_size=base.vocab_size,
        rms_norm_eps=base.rms_norm_eps * small.hidden_size / shape.hidden_size,
        rope_parameters=base.rope_parameters,
        max_position_embeddings=base.max_position_embeddings,
        bos_token_id=base.bos_token_id,
        eos_token_id=base.eos_token_id,
        pad_token_id=base.pad_token_id,
    )
    dtype, device = model.dtype, model.device
    large = empty_llama(config, dtype, device)
    head = model.lm_head
    large.lm_head = nn.Linear(
        shape.hidden_size, head.weight.shape[0], bias=head.bias is not None, dtype=dtype, device=device
    ).requires_grad_(False)
    fill_at_random(large)
    with torch.no_grad():
        _copy_weights(model, large, places)
    large.generation_config = model.generation_config
    return large


def _copy_weights(model: LlamaForCausalLM, large: LlamaForCausalLM, places: HeadPlaces) -> None:
    width = model.config.hidden_size
    norm_scale = (width / large.config.hidden_size) ** 0.5
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        new = large.get_parameter(name)
        new.zero_()
        new[:, :width] = model.get_parameter(name)
    if model.lm_head.bias is not None:
        large.get_parameter("lm_head.bias").copy_(model.lm_head.bias)
    _norm(model, large, "model.norm.weight", norm_scale)
    for layer in range(large.config.num_hidden_layers):
        for output in ("self_attn.o_proj", "mlp.down_proj"):
            large.get_parameter(f"model.layers.{layer}.{output}.weight").zero_()
    for layer in range(model.config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        _norm(model, large, f"{prefix}.input_layernorm.weight", norm_scale)
        _norm(model, large, f"{prefix}.post_attention_layernorm.weight", norm_scale)
        _attention(model, large, f"{prefix}.self_attn", places)
        for name in ("gate_proj", "up_proj", "down_proj"):
            old = model.get_parameter(f"{prefix}.mlp.{name}.weight")
            large.get_parameter(f"{prefix}.mlp.{name}.weight")[: old.shape[0], : old.shape[1]] = old


def _norm(model: LlamaForCausalLM, large: LlamaForCausalLM, name: str, scale: float) -> None:
    old = model.get_parameter(name)
    large.get_parameter(name)[: len(old)] = old * scale


def _attention(model: LlamaForCausalLM, large: LlamaForCausalLM, prefix: str, places: HeadPlaces) -> None:
    width, small_dim, head_dim = model.config.hidden_size, _shape_of(model).head_dim, _shape_of(large).head_dim
    key_heads, key_places = zip(*places.key_heads, strict=True)
    query_rows = _rows(places.query_heads, places.dims, head_dim)
    key_rows = _rows(key_places, places.dims, head_dim)
    queries = large.get_parameter(f"{prefix}.q_proj.weight")
    # what is in a head beside the small model's dimensions must not count: without a query there is no score
    queries.unflatten(0, (-1, head_dim))[list(places.query_heads)] = 0
    queries[query_rows, :width] = model.get_parameter(f"{prefix}.q_proj.weight") * (head_dim / small_dim) ** 0.5
    for name in ("k_proj", "v_proj"):
        of_heads = model.get_parameter(f"{prefix}.{name}.weight").unflatten(0, (-1, small_dim))[list(key_heads)]
        large.get_parameter(f"{prefix}.{name}.weight")[key_rows, :width] = of_heads.flatten(0, 1)
    output = large.get_parameter(f"{prefix}.o_proj.weight")
    columns = torch.tensor(query_rows, device=output.device)
    output[:width].index_copy_(1, columns, model.get_parameter(f"{prefix}.o_proj.weight"))


def _rows(heads: Sequence[int], dims: Sequence[int], head_dim: int) -> list[int]:
    """Rows of a projection: these dimensions of these heads."""
    return [head * head_dim + dim for head in heads for dim in dims]


def _shape_of(model: LlamaForCausalLM) -> ModelShape:
    config = model.config
    return ModelShape(
        name=config.name_or_path or "the small model",
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        layer_macs=0,
        head_macs=0,
        num_parameters=0,
        vocab_size=config.vocab_size,
        source="the model's own config",
    )


def _no_room(base: ModelShape, shape: ModelShape, why: str) -> str:
    return f"{base.name} does not fit into {shape.name}: {why}; choose a larger shape"
