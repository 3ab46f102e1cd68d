"""A cheaper drafter cut out of a trained one: the feed-forward units that act most, and another draft vocabulary."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spinbench.errors import UserError
from spinbench.models.distill.dataset import SelfPlayLine, make_batch
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.student import Layer, Student

SAMPLE_LINES = 64


def pruned_weights(
    source: Student,
    source_ids: NDArray[np.int32],
    recipe: DrafterRecipe,
    target_ids: NDArray[np.int32],
    lines: Sequence[SelfPlayLine],
    numbers: NDArray[np.int64],
) -> dict[str, Tensor]:
    """The weights of `recipe`'s student, cut from `source` by how strongly each unit acts on the lines `numbers`.

    Raises UserError when the recipe differs from the source in more than feed-forward width and draft vocabulary.
    """
    check_shapes(source.recipe, recipe)
    weights = {name: parameter.detach().cpu().clone() for name, parameter in source.named_parameters()}
    for number, strength in enumerate(unit_strengths(source, lines, numbers[:SAMPLE_LINES])):
        kept = strength.topk(recipe.intermediate_size).indices.sort().values
        prefix = f"model.layers.{number}.mlp."
        for name in ("gate_proj", "up_proj"):
            weights[f"{prefix}{name}.weight"] = weights[f"{prefix}{name}.weight"][kept]
        weights[f"{prefix}down_proj.weight"] = weights[f"{prefix}down_proj.weight"][:, kept]
    known = {int(token): index for index, token in enumerate(source_ids)}
    bias = weights["head_bias"]
    weights["head_bias"] = torch.tensor([float(bias[known[t]]) if t in known else 0.0 for t in target_ids.tolist()])
    return weights


def check_shapes(source: DrafterRecipe, recipe: DrafterRecipe) -> None:
    """Raise UserError unless `recipe` can be cut out of `source`."""
    same = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "rope_theta")
    for key in same:
        if getattr(source, key) != getattr(recipe, key):
            raise UserError(
                f"distill: drafter {recipe.name}: {key} is {getattr(recipe, key)}, its source {source.name} has "
                f"{getattr(source, key)}; only intermediate_size and the draft vocabulary may differ"
            )
    if recipe.intermediate_size > source.intermediate_size:
        raise UserError(
            f"distill: drafter {recipe.name}: intermediate_size {recipe.intermediate_size} is more than the "
            f"{source.intermediate_size} of its source {source.name}"
        )


def unit_strengths(source: Student, lines: Sequence[SelfPlayLine], numbers: NDArray[np.int64]) -> list[Tensor]:
    """Per layer [intermediate]: mean size of each unit's activation times the size of what it writes."""
    sums: dict[int, Tensor] = {}

    def add(number: int, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        activation = inputs[0].float().abs().flatten(0, -2).mean(0)
        sums[number] = sums.get(number, torch.zeros_like(activation)) + activation

    layers = [layer for layer in source.model.layers if isinstance(layer, Layer)]
    hooks = [layer.mlp.down_proj.register_forward_pre_hook(partial(add, i)) for i, layer in enumerate(layers)]
    try:
        with torch.inference_mode():
            for number in numbers:
                tokens = torch.from_numpy(make_batch(lines, np.asarray([number]), 1, 0).tokens)
                source.hidden(tokens.to(source.head_bias.device))
    finally:
        for hook in hooks:
            hook.remove()
    return [(sums[i] * layer.mlp.down_proj.weight.detach().norm(dim=0)).cpu() for i, layer in enumerate(layers)]
