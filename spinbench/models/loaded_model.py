"""A target and a drafter in memory, with the facts that decisions and reports need of them."""

import copy
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

Model = TypeVar("Model")


@dataclass(frozen=True)
class TargetModel:
    """The LLM whose output is served: in eval mode, on its device, in its dtype, without gradients."""

    name: str
    """What the user wrote."""
    kind: Literal["embedded", "hub", "path", "shape", "inflated"]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    eos_token_ids: frozenset[int]
    """Tokens that end an answer; empty when the model names none."""
    max_model_len_tokens: int
    """Prompt and answer together."""
    weights_sha256: str
    """Of a model that was made, of what it was made from."""
    base: "TargetModel | None" = None
    """Of an inflated model the small one, whose weights its drafters share."""

    @property
    def trained(self) -> "TargetModel":
        """The model that was trained: this one, or the small one inside."""
        return self.base or self

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: every token id of a prompt is below it."""
        return input_embedding(self.model).shape[0]


@dataclass(frozen=True)
class DrafterModel:
    """A small causal LM that proposes target tokens; it reads target ids and has the target's dtype and device."""

    name: str
    model: PreTrainedModel
    target_ids: torch.Tensor | None
    """int64 [draft_vocab]: output id of the drafter -> target token id. None: its outputs are target ids."""
    macs_per_token: int
    weights_sha256: str


def input_embedding(model: PreTrainedModel) -> torch.Tensor:
    """The embedding matrix [vocab, width] that turns token ids into vectors."""
    weight = model.get_input_embeddings().weight
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"{type(model).__name__} has no embedding matrix")
    return weight


def macs_per_token(model: nn.Module) -> int:
    """Multiply-adds of all linear layers, head included, for one token; attention over the context is not counted."""
    # a module is counted where it is used: a head whose weight is tied to the embedding still multiplies
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear | Conv1D))


def on_device(model: Model, device: torch.device) -> Model:
    """A drafter's network on `device`; what is no network stays as it is."""
    if not isinstance(model, DrafterModel):
        return model
    cast(nn.Module, model.model).to(device)  # in place; the cast is for the type checker, which misreads the override
    ids = model.target_ids
    return cast(Model, replace(model, target_ids=None if ids is None else ids.to(device)))


def copy_sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules and the config over the same parameters: changing it leaves the original as it was."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
