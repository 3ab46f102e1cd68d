"""Everything `spinbench distill` can be told."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SelfPlayConfig:
    """How the target's own prompts and answers are made."""

    file: str | None = None
    """An existing self-play file to start from (JSON `[prompt_len, token_ids]` a line); it is copied, never changed."""
    lines: Annotated[int, Field(ge=2)] = 4000
    """Lines wanted in all, those of `file` included."""
    prompt_tokens: Annotated[int, Field(ge=1)] = 32
    """Longest user turn, in tokens."""
    answer_tokens: Annotated[int, Field(ge=1)] = 128
    """Longest answer, in tokens."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus of the user turns; they are sampled at temperature 1."""
    opening_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of user turns that begin with a given opening, for variety."""
    batch_lines: Annotated[int, Field(ge=1)] = 64
    """Lines generated at once; a resumed run repeats at most one such batch."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DistillConfig:
    """One distillation: text, labels, training of one or several drafters, score, packing."""

    work_dir: str
    """Folder of text, labels and checkpoints; a run started again in it goes on where it stopped."""
    output_dir: str
    """Folder that gets one folder per finished drafter."""
    drafters: tuple[str, ...] = ("all",)
    """Names of recipes of the target, in training order, or `all`."""
    passes_scale: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies every recipe's passes over the data: training time grows with it."""
    soft_labels: bool = True
    """Learn from the target's 16 likeliest tokens per position and not only from the token that it took."""
    held_out_lines: Annotated[int, Field(ge=1)] = 300
    """Lines kept for the score."""
    num_speculative_tokens: Annotated[int, Field(ge=1)] = 4
    """K of the acceptance length in the score."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of training that an interruption can cost."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of prompts, split and training."""
    self_play: SelfPlayConfig = SelfPlayConfig()
