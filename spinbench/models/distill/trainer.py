"""Training one drafter: a fixed number of steps, resumable at any of them with the same result."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinbench.models.distill.dataset import make_batch
from spinbench.models.distill.head_loss import SparseCrossEntropy
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.schedule import StepPlan, TrainingData, learning_rate_factor, plan_steps, run_fingerprint
from spinbench.models.distill.score import correct_positions, score
from spinbench.models.distill.soft_labels import LabelMixer, SoftLabels
from spinbench.models.distill.student import Student
from spinbench.models.distill.training_log import TrainingLog, ValidationPoint, load_checkpoint, save_checkpoint

HEAD_CHUNK_TOKENS = 256
"""Answer tokens whose logits are computed together."""
MAX_GRADIENT_NORM = 1.0


def make_optimizers(student: Student, recipe: DrafterRecipe) -> list[torch.optim.Optimizer]:
    """Muon (or AdamW) for the layers' matrices, AdamW for projections, norms and the head's bias."""
    matrices = [p for n, p in student.named_parameters() if p.ndim == 2 and n.startswith("model.")]
    projections = [p for n, p in student.named_parameters() if p.ndim == 2 and not n.startswith("model.")]
    vectors = [p for p in student.parameters() if p.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": vectors, "lr": recipe.projection_learning_rate, "weight_decay": 0.0}]
    if projections:
        groups.append(
            {"params": projections, "lr": recipe.projection_learning_rate, "weight_decay": recipe.weight_decay}
        )
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "adamw":
        groups.append({"params": matrices, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay})
    else:
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    optimizers.append(torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-9))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def batch_loss(
    student: Student, data: TrainingData, step: StepPlan, labels: SoftLabels, mixer: LabelMixer
) -> tuple[Tensor, int, int]:
    """(mean loss per answer token, token positions computed, answer tokens with a label) of one step."""
    batch = make_batch(data.lines, step.numbers, step.lines_per_row, data.pad_token_id)
    rows, columns, indices, probs = [], [], [], []
    for row, column, number in batch.line_starts:
        line = data.lines[number]
        index, prob = mixer.targets(line, labels.of_line(number))
        where = np.arange(column + line.prompt_tokens - 1, column + len(line.tokens) - 1)
        rows.append(np.full(len(where), row))
        columns.append(where)
        indices.append(index)
        probs.append(prob)
    prob_table = np.concatenate(probs)
    used = prob_table.sum(1) > 0
    flat = np.concatenate(rows)[used] * batch.tokens.shape[1] + np.concatenate(columns)[used]
    device = student.head_bias.device
    hidden = student.hidden(torch.from_numpy(batch.tokens).to(device), torch.from_numpy(flat).to(device))
    loss = SparseCrossEntropy.apply(
        hidden,
        student.head_weight(),
        student.head_bias,
        torch.from_numpy(np.concatenate(indices)[used]).to(device),
        torch.from_numpy(prob_table[used]).to(device),
        HEAD_CHUNK_TOKENS,
    )
    assert isinstance(loss, Tensor)
    return loss / len(flat), batch.tokens.size, len(flat)


def train(
    student: Student,
    target_ids: NDArray[np.int32],
    data: TrainingData,
    checkpoint: Path,
    *,
    validations: int = 10,
    checkpoint_every_s: float = 60.0,
    on_step: Callable[[int, int, float, float], None] | None = None,
    on_validation: Callable[[ValidationPoint], None] | None = None,
    max_steps: int | None = None,
) -> TrainingLog:
    """Train `student` in place to the end of its recipe and return the log; a checkpoint found is continued.

    `on_step` gets (step, steps, loss, tokens per second). `max_steps` stops early, as an interruption would.
    """
    recipe = student.recipe
    plan = plan_steps(recipe, data)
    fingerprint = run_fingerprint(recipe, data, plan)
    optimizers = make_optimizers(student, recipe)
    mixer = LabelMixer(target_ids, student.vocab_size, recipe.hard_label_share)
    log = TrainingLog()
    if checkpoint.is_file():
        log = load_checkpoint(checkpoint, student, optimizers, fingerprint)
    look_at = {round(len(plan) * (i + 1) / validations) for i in range(validations)}
    labels: SoftLabels | None = None
    labels_epoch = -1
    saved = time.monotonic()
    last = len(plan) if max_steps is None else min(max_steps, len(plan))
    for number in range(log.steps, last):
        step = plan[number]
        if step.epoch != labels_epoch or labels is None:
            # labels may still be written while we train; the count used in a pass is kept for a resumed run
            labels = SoftLabels(data.labels_folder, data.lines, log.label_shards.get(step.epoch))
            log.label_shards[step.epoch], labels_epoch = labels.shards, step.epoch
        began = time.monotonic()
        _set_learning_rates(optimizers, learning_rate_factor(number, len(plan), recipe.warmup_steps))
        loss, tokens, answer_tokens = batch_loss(student, data, step, labels, mixer)
        _update(student, optimizers, loss)
        log.note_step(float(loss.detach()), tokens, answer_tokens, _soft_label_share(data, step, labels))
        took_s = time.monotonic() - began
        log.seconds += took_s
        if on_step is not None:
            on_step(log.steps, len(plan), log.running_loss, tokens / took_s)
        if log.steps in look_at:
            result = score(list(correct_positions(student, data.lines, data.validation.tolist(), target_ids).values()))
            point = ValidationPoint(
                log.steps, log.tokens_seen, log.running_loss, result.top1_agreement, result.acceptance_length
            )
            log.points.append(point)
            if on_validation is not None:
                on_validation(point)
        if log.steps == last or time.monotonic() - saved > checkpoint_every_s:
            save_checkpoint(checkpoint, student, optimizers, log, fingerprint)
            saved = time.monotonic()
    return log


def _set_learning_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """`factor` times the rate that each group of parameters began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def _update(student: Student, optimizers: Sequence[torch.optim.Optimizer], loss: Tensor) -> None:
    """One step down the gradient of `loss`, clipped to a norm of `MAX_GRADIENT_NORM`."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_GRADIENT_NORM)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _soft_label_share(data: TrainingData, step: StepPlan, labels: SoftLabels) -> float:
    """Share of a step's answer tokens that have soft labels."""
    answer_tokens = sum(data.lines[i].answer_tokens for i in step.numbers)
    return sum(data.lines[i].answer_tokens for i in step.numbers if i < len(labels)) / answer_tokens
