"""A target in parts: each process has a share of every layer's heads and neurons, by transformers' own plan."""

from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from spinbench.errors import UserError
from spinbench.models.checkpoint import first_line
from spinbench.models.loaded_model import copy_sharing_weights


def num_shares(config: PretrainedConfig) -> int:
    """How many processes have a model between them."""
    return int(getattr(getattr(config, "distributed_config", None), "tp_size", None) or 1)


def model_share(name: str, model: PreTrainedModel, count: int, device: torch.device) -> PreTrainedModel:
    """This process's part of `model`, which is left as it is, on `device`; all of `count` processes must come here.

    The plan is the model's own (`tp_plan="auto"`): what its config and class say of each layer. The whole model is read
    on the host first, as every other is, so that only a share of it goes to the device. Raises UserError where
    transformers cannot do it; `check_share` says more beforehand.
    """
    own = copy_sharing_weights(model)
    try:
        from transformers.distributed.configuration_utils import DistributedConfig

        kind: Any = type(own)
        config, _, meshes = kind.prepare_distribute_model(DistributedConfig(tp_size=count, tp_plan="auto"))
        _untie(own)
        own = kind.maybe_distribute_model(own, config, meshes)
    except (ImportError, AttributeError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"target {name!r} cannot be shared by {count} processes ({first_line(error)})") from error
    own.requires_grad_(False).eval()
    cast(nn.Module, own).to(device)
    return own


def check_share(name: str, model: PreTrainedModel, count: int) -> None:
    """Raise UserError for a model without a plan, and one whose heads cannot be dealt out evenly."""
    plan = getattr(model, "tp_plan", None) or {}
    styles = {key.rsplit(".", 1)[-1]: style for key, style in plan.items()}
    if any(styles.get(part) != "colwise" for part in ("q_proj", "k_proj", "v_proj")):
        raise UserError(
            f"engine.tensor_parallel is {count}; transformers has no plan of how to share the heads of "
            f"target {name!r}, a {type(model).__name__}: set it to 1"
        )
    text = model.config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    if heads % count or kv_heads % count:
        raise UserError(
            f"engine.tensor_parallel is {count}; it must divide the heads of target {name!r}, which has {heads} query "
            f"heads and {kv_heads} key heads"
        )


def _untie(model: PreTrainedModel) -> None:
    """Give a head that is its embedding a parameter of its own: the two are shared along different plans."""
    head, embedding = cast(Any, model.get_output_embeddings()), cast(Any, model.get_input_embeddings())
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(embedding.weight.detach(), requires_grad=False)
