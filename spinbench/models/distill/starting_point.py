"""The untrained student of a recipe: its draft vocabulary and where its weights start."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from spinbench.errors import UserError
from spinbench.models.distill.config import DistillConfig
from spinbench.models.distill.dataset import Corpus, draft_vocabulary
from spinbench.models.distill.pack import load_packed
from spinbench.models.distill.pruning import pruned_weights
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.student import Student, initialise
from spinbench.models.loaded_model import TargetModel, input_embedding

Source = tuple[Student, NDArray[np.int32]]
"""A trained drafter and its draft vocabulary."""


def make_student(
    recipe: DrafterRecipe, target: TargetModel, corpus: Corpus, source: Source | None
) -> tuple[Student, NDArray[np.int32]]:
    """The student at its start, on the target's device, and its draft vocabulary [draft_vocab_size] of target ids."""
    embedding = input_embedding(target.model).detach().float().cpu()
    target_ids = draft_vocabulary(
        corpus.lines,
        corpus.training_lines(recipe.draft_vocab_categories),
        recipe.draft_vocab_size,
        min(target.eos_token_ids, default=0),
    )
    student = Student(recipe, embedding, torch.from_numpy(target_ids), torch.bfloat16)
    start: dict[str, Tensor] | None = None
    if recipe.initialisation == "target_layers":
        start = layers_to_copy(recipe, target)
    elif source is not None:
        sample = corpus.training_lines(recipe.phases[-1].categories)
        start = pruned_weights(*source, recipe, target_ids, corpus.lines, sample)
    initialise(student, embedding, start, recipe.seed)
    return student.to(target.model.device), target_ids


def layers_to_copy(recipe: DrafterRecipe, target: TargetModel) -> dict[str, Tensor]:
    """The target's chosen layers under the student's names, and its final norm, scaled down."""
    state = target.model.state_dict()
    copied = {"model.norm.weight": state["model.norm.weight"].float().cpu() * recipe.final_norm_scale}
    for own, theirs in enumerate(recipe.target_layers):
        prefix = f"model.layers.{theirs}."
        copied |= {
            f"model.layers.{own}.{name.removeprefix(prefix)}": weight.float().cpu()
            for name, weight in state.items()
            if name.startswith(prefix)
        }
    return copied


def source_drafter(
    recipe: DrafterRecipe, known: Sequence[DrafterRecipe], config: DistillConfig, target: TargetModel
) -> Source | None:
    """The packed drafter in the output folder that `recipe` is cut from; None when it starts elsewhere.

    Raises UserError when the source's recipe is unknown.
    """
    if recipe.initialisation != "trained_drafter":
        return None
    by_name = {one.name: one for one in known}
    if recipe.source_drafter not in by_name:
        raise UserError(f"distill: drafter {recipe.name}: no recipe {recipe.source_drafter!r} to start from")
    tensors = load_file(Path(config.output_dir) / recipe.source_drafter / "weights.safetensors")
    embedding = input_embedding(target.model).detach().float().cpu()
    source = Student(by_name[recipe.source_drafter], embedding, tensors["target_ids"], torch.bfloat16)
    load_packed(source, tensors)
    return source, tensors["target_ids"].numpy()


def check_sources(chosen: Sequence[DrafterRecipe], output_dir: Path) -> None:
    """Raise UserError when a drafter is to be cut from one that neither exists nor is trained before it."""
    made: set[str] = set()
    for recipe in chosen:
        source = recipe.source_drafter
        weights = output_dir / source / "weights.safetensors"
        if recipe.initialisation == "trained_drafter" and source not in made and not weights.is_file():
            raise UserError(
                f"distill.drafters: {recipe.name} is cut from {source}, which is not in {output_dir}; "
                f"name {source} before it"
            )
        made.add(recipe.name)
