"""What a profile must know of models in memory."""

import torch
from torch import nn
from transformers import PreTrainedModel

from spinbench.calibration.profile.meta import ModelMeta
from spinbench.models.load import macs_per_token
from spinbench.models.model_shape import ModelShape
from spinbench.runtime.kv.kv_pool import KvShape


def model_meta(name: str, model: PreTrainedModel, sha256: str) -> ModelMeta:
    """Sizes of a model's weights and KV."""
    return ModelMeta(
        name=name,
        sha256=sha256,
        macs_per_token=macs_per_token(model),
        weights_bytes=_num_parameters(model) * model.dtype.itemsize,
        kv_bytes_per_token=KvShape.of(model.config).bytes_per_token(model.dtype),
    )


def shape_of(name: str, model: PreTrainedModel) -> ModelShape:
    """The model's sizes, for a roofline."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module) or not isinstance(head.weight, torch.Tensor):
        raise TypeError(f"{type(model).__name__} has no matrix that makes logits")
    kv, config = KvShape.of(model.config), model.config.get_text_config()
    return ModelShape(
        name=name,
        num_layers=kv.num_layers,
        hidden_size=config.hidden_size,
        num_heads=kv.num_heads,
        num_kv_heads=kv.num_kv_heads,
        head_dim=kv.head_dim,
        layer_macs=macs_per_token(model) - head.weight.numel(),
        head_macs=head.weight.numel(),
        num_parameters=_num_parameters(model),
        vocab_size=head.weight.shape[0],
        source="the model's own config and weights",
    )


def _num_parameters(model: PreTrainedModel) -> int:
    # what is tied is there once
    return sum(parameter.numel() for parameter in model.parameters())
