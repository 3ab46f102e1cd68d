"""Tiny random models of five families, in float64, for exactness tests."""

import functools
from collections.abc import Callable

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.loaded_model import copy_sharing_weights

VOCAB = 61
EOS = 3


def _llama(layers: int) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=EOS, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def _qwen3(layers: int) -> PretrainedConfig:
    return Qwen3Config(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, eos_token_id=EOS, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def _opt(layers: int) -> PretrainedConfig:
    return OPTConfig(
        vocab_size=VOCAB, hidden_size=24, ffn_dim=32, num_hidden_layers=layers, num_attention_heads=4,
        word_embed_proj_dim=24, max_position_embeddings=256, eos_token_id=EOS, bos_token_id=1, pad_token_id=0, dropout=0.0,
        tie_word_embeddings=False,
    )  # fmt: skip


def _gpt_neox(layers: int) -> PretrainedConfig:
    return GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=3,
        max_position_embeddings=256, eos_token_id=EOS, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def _gpt2(layers: int) -> PretrainedConfig:
    return GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_inner=32, n_layer=layers, n_head=3, n_positions=256, eos_token_id=EOS,
        bos_token_id=1, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[int], PretrainedConfig]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "opt": _opt,
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
}


QUICK = "opt"
"""The family with the fewest operations a layer: for tests of what is done with models of any family."""


def random_model(family: str, seed: int, layers: int = 2, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A model with random weights of a spread that makes its choices varied but not flat."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](layers), dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.25)
    return model.requires_grad_(False)


def target(family: str = QUICK, seed: int = 0, dtype: torch.dtype = torch.float64) -> TargetModel:
    """A tiny target."""
    return target_of(family, random_model(family, seed, dtype=dtype))


def target_of(family: str, model: PreTrainedModel) -> TargetModel:
    """The same around a model that is there."""
    return TargetModel(family, "path", model, None, frozenset({EOS}), 256, "0" * 64)


def noisy_copy(source: PreTrainedModel, seed: int, amount: float) -> PreTrainedModel:
    """A drafter that agrees with the target now and then: its weights, disturbed."""
    copy = AutoModelForCausalLM.from_config(source.config, dtype=source.dtype).eval()
    copy.load_state_dict(source.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return copy.requires_grad_(False)


def drafters(of: TargetModel) -> list[DrafterModel]:
    """A good one, a poor one, and one with a draft vocabulary in another order."""
    little, much = (0.015, 0.04) if of.name == QUICK else (0.01, 0.03)  # as much as makes them err as often
    good = DrafterModel("good", noisy_copy(of.model, 1, little), None, 1, "1" * 64)
    poor = DrafterModel("poor", noisy_copy(of.model, 2, much), None, 1, "2" * 64)
    small = noisy_copy(of.model, 3, 0.02)
    ids = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(4))[: VOCAB - 11]
    head = small.get_output_embeddings()
    replaced = torch.nn.Linear(head.in_features, len(ids), bias=False, dtype=small.dtype)
    with torch.no_grad():
        replaced.weight.copy_(head.weight[ids])
    small.set_output_embeddings(replaced.requires_grad_(False))
    return [good, poor, DrafterModel("small_vocabulary", small, ids, 1, "3" * 64)]


@functools.cache
def shared(family: str = QUICK) -> tuple[TargetModel, list[DrafterModel]]:
    """A target and its drafters, made once a process: nobody changes their weights.

    Who serves them serves one copy of each (`copy_sharing_weights`): to make one takes as long as many a job.
    """
    made = target(family)
    models = drafters(made)
    for one in (made, *models):
        served = copy_sharing_weights(one.model)
        one.model.__deepcopy__ = lambda memo, served=served: served
    return made, models
