"""Every step of a training run, known before it starts: which lines, in which order, at which learning rate."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinbench.errors import UserError
from spinbench.models.distill.dataset import SelfPlayLine, epoch_batches
from spinbench.models.distill.recipe import DrafterRecipe


@dataclass(frozen=True)
class TrainingData:
    """All that the training of a drafter reads."""

    lines: Sequence[SelfPlayLine]
    categories: Sequence[str]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    labels_folder: Path
    pad_token_id: int


@dataclass(frozen=True)
class StepPlan:
    """One step: which lines, how many in a row, and which pass it belongs to."""

    numbers: NDArray[np.int64]
    lines_per_row: int
    epoch: int


def plan_steps(recipe: DrafterRecipe, data: TrainingData) -> list[StepPlan]:
    """Every step of the run in order, from the recipe's seed alone."""
    generator = np.random.default_rng([recipe.seed, 1])
    plan: list[StepPlan] = []
    epoch = 0
    for phase in recipe.phases:
        which = np.asarray(
            [i for i in data.train if not phase.categories or data.categories[i] in phase.categories], dtype=np.int64
        )
        if not len(which):
            raise UserError(
                f"distill: drafter {recipe.name}: no training line of the categories {list(phase.categories)}"
            )
        left = phase.epochs
        while left > 1e-9:
            batches = epoch_batches(data.lines, which, recipe, generator)
            long_rows = generator.random(len(batches)) < recipe.long_row_share
            for batch, long_row in list(zip(batches, long_rows, strict=True))[
                : max(1, round(min(1.0, left) * len(batches)))
            ]:
                plan.append(StepPlan(batch, recipe.lines_per_long_row if long_row else 1, epoch))
            left -= 1.0
            epoch += 1
    return plan


def run_fingerprint(recipe: DrafterRecipe, data: TrainingData, plan: Sequence[StepPlan]) -> str:
    """Hex digest of all that decides a training run but the labels: recipe, text, and which lines come when."""
    digest = hashlib.sha256(repr(recipe).encode())
    for line in data.lines:
        digest.update(np.int64(line.prompt_tokens).tobytes() + line.tokens.tobytes())
    for step in plan:
        digest.update(f"|{step.lines_per_row}|".encode() + step.numbers.tobytes())
    return digest.hexdigest()


def learning_rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    warmup = min(warmup_steps, max(1, steps // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))
