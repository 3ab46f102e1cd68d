"""What a training run did so far, and the checkpoint that it travels in."""

import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from spinbench.errors import UserError
from spinbench.models.distill.student import Student
from spinbench.whole_file import whole_file

LOSS_SHARE = 0.05
"""Of a step's loss in the running one."""


@dataclass(frozen=True)
class ValidationPoint:
    """One look at held-out lines during training."""

    step: int
    tokens_seen: int
    loss: float
    top1_agreement: float
    acceptance_length: float


@dataclass
class TrainingLog:
    """The counts and the curve of one training run."""

    points: list[ValidationPoint] = field(default_factory=list)
    steps: int = 0
    tokens_seen: int = 0
    """Token positions computed, padding included."""
    answer_tokens_seen: int = 0
    """Those of them that had a loss."""
    seconds: float = 0.0
    running_loss: float = 0.0
    label_shards: dict[int, int] = field(default_factory=dict)
    """Pass -> shards of soft labels that existed when it began."""
    soft_label_share: float = 0.0
    """Share of the answer tokens that had soft labels, the mean over steps."""

    def note_step(self, loss: float, tokens: int, answer_tokens: int, soft_label_share: float) -> None:
        """Take a step in: its mean loss, positions computed, those with a loss, and their share with soft labels."""
        self.running_loss = loss if self.steps == 0 else (1 - LOSS_SHARE) * self.running_loss + LOSS_SHARE * loss
        self.steps += 1
        self.tokens_seen += tokens
        self.answer_tokens_seen += answer_tokens
        self.soft_label_share += (soft_label_share - self.soft_label_share) / self.steps


def save_checkpoint(
    path: Path, student: Student, optimizers: Sequence[torch.optim.Optimizer], log: TrainingLog, fingerprint: str
) -> None:
    """Write weights, optimizer state and log in one atomic step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "fingerprint": fingerprint,
        "student": student.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "log": asdict(log),
    }
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(
    path: Path, student: Student, optimizers: Sequence[torch.optim.Optimizer], fingerprint: str
) -> TrainingLog:
    """Put a checkpoint into student and optimizers and return its log.

    Raises UserError when the file is no checkpoint, or one of another recipe or data set.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        found, log = state["fingerprint"], dict(state["log"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a training checkpoint, or damaged; remove it to train from the start") from error
    if found != fingerprint:
        raise UserError(
            f"{path}: checkpoint of another recipe or data set; remove it or choose another distill.work_dir"
        )
    student.load_state_dict(state["student"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return TrainingLog(**{**log, "points": [ValidationPoint(**point) for point in log["points"]]})
