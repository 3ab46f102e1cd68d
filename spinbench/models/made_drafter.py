"""Drafters that a user's own function makes, from the target or from anywhere."""

from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from spinbench.dotted_name import import_dotted
from spinbench.errors import UserError
from spinbench.models.checkpoint import weights_sha256
from spinbench.models.loaded_model import DrafterModel, TargetModel, macs_per_token


def make_drafter(name: str, target: TargetModel) -> DrafterModel:
    """The drafter that the function called `name` makes for `target`, in the target's dtype and on its device.

    Such a function takes the target, and gives a causal LM that reads and says the target's tokens. Known by a digest
    of its weights, as all drafters are. Raises UserError when there is no such function, or it gives something else.
    """
    make: Any = import_dotted("a drafter of models.drafters", name, "function")
    if not callable(make):
        raise UserError(f"drafter {name!r}: that is no function that takes the target and gives a model")
    model = make(target)
    if not isinstance(model, PreTrainedModel):
        raise UserError(f"drafter {name!r}: gave {type(model).__name__}; it must give a causal LM of transformers")
    model.requires_grad_(False).eval()
    cast(nn.Module, model).to(device=target.model.device, dtype=target.model.dtype)
    return DrafterModel(name, model, None, macs_per_token(model), weights_sha256(None, model))
