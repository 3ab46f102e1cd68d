"""Llamas made from sizes alone: real arithmetic, random weights. For timing where weights cannot be had."""

import hashlib
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from spinbench.errors import UserError
from spinbench.models.free_memory import free_bytes
from spinbench.models.model_shape import ModelShape

MAX_MODEL_LEN_TOKENS = 32_768
"""Of a model of which nobody expects sense: as long as one may want to time."""
WEIGHT_STD = 0.02
"""Of random weights: as Llamas begin, so that numbers stay in range through many layers."""


def empty_llama(config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> LlamaForCausalLM:
    """The model with memory for its weights, and nothing in them yet. Raises UserError where there is too little."""
    with torch.device("meta"):
        model = cast(Any, LlamaForCausalLM(config))
        model.to(dtype)
    needed = sum(parameter.numel() for parameter in model.parameters())
    _require_room(f"a Llama of {config.num_hidden_layers} layers, {config.hidden_size} wide,", needed, dtype, device)
    model.to_empty(device=device)
    with device:
        model.model.rotary_emb = LlamaRotaryEmbedding(config)  # its buffer is computed, not stored
    return model.requires_grad_(False).eval()


def require_room(shapes: Iterable[ModelShape], dtype: torch.dtype, device: torch.device) -> None:
    """Raise UserError where models of these shapes have no room together."""
    found = list(shapes)
    _require_room(", ".join(shape.name for shape in found), sum(shape.num_parameters for shape in found), dtype, device)


def _require_room(what: str, num_parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    needed = num_parameters * dtype.itemsize
    free = free_bytes(device)
    if needed > free:
        raise UserError(
            f"{what} of {str(dtype).removeprefix('torch.')} weights: {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free; choose smaller shapes, or another engine.dtype or engine.device"
        )


def fill_at_random(model: nn.Module, seed: int = 0) -> None:
    """Norms are ones, all other weights normal: fixed by the seed on a device, not from device to device."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, WEIGHT_STD, generator=generator)


def shape_config(shape: ModelShape, **settings: Any) -> LlamaConfig:
    """The config of a Llama of these sizes; `settings` replace or add to it."""
    known: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": MAX_MODEL_LEN_TOKENS,
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**(known | settings))


def shape_model(shape: ModelShape, dtype: torch.dtype, device: torch.device) -> LlamaForCausalLM:
    """A Llama of these sizes with random weights."""
    model = empty_llama(shape_config(shape), dtype, device)
    fill_at_random(model)
    return model


def made_sha256(*parts: str) -> str:
    """Stands for the digest of weights that are made from these parts and lie in no file."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
