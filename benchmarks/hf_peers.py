"""Peers that we did not write: Hugging Face `generate` and assisted generation, same prompts, same stop rule."""

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from spinbench.models.load import DrafterModel, TargetModel


class FullVocabularyHead(nn.Module):
    """Widens a draft vocabulary to the target's, as Hugging Face's assisted generation needs: -inf elsewhere."""

    def __init__(self, head: nn.Module, target_ids: torch.Tensor, vocab_size: int) -> None:
        super().__init__()
        self._head = head
        self._target_ids = target_ids
        self._vocab_size = vocab_size

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., vocab] from hidden states [..., width]."""
        logits = self._head(hidden)
        full = logits.new_full((*logits.shape[:-1], self._vocab_size), float("-inf"))
        full[..., self._target_ids] = logits
        return full


def with_full_vocabulary(drafter: DrafterModel, vocab_size: int) -> PreTrainedModel:
    """A copy of the drafter whose logits are over the target's vocabulary, free to use Hugging Face's own attention."""
    model = copy.deepcopy(drafter.model)
    if drafter.target_ids is not None:
        model.lm_head = FullVocabularyHead(model.lm_head, drafter.target_ids, vocab_size)
    return model


def _generation_config(max_new_tokens: int) -> GenerationConfig:
    # no end token: every method emits exactly `max_new_tokens`
    return GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=None, pad_token_id=2, use_cache=True
    )


def hf_generate(
    target: TargetModel,
    prompts: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    batch_size: int,
    assistant: PreTrainedModel | None = None,
    num_assistant_tokens: int | None = None,
) -> tuple[float, list[tuple[int, ...]]]:
    """(seconds, answers) of static batches, left-padded as Hugging Face's documentation says.

    With an assistant: assisted generation (batch 1 only). `num_assistant_tokens` fixes K; `None` leaves Hugging Face's
    own defaults, with its confidence threshold and growing K.
    """
    model: Any = target.model  # transformers' own annotations do not show `generate` on PreTrainedModel
    model.set_attn_implementation("sdpa")
    generation = _generation_config(max_new_tokens)
    more: dict[str, Any] = {}
    if assistant is not None:
        assistant.set_attn_implementation("sdpa")
        assistant.generation_config = copy.deepcopy(generation)
        if num_assistant_tokens is not None:
            assistant.generation_config.num_assistant_tokens = num_assistant_tokens
            assistant.generation_config.num_assistant_tokens_schedule = "constant"
            assistant.generation_config.assistant_confidence_threshold = 0.0
        more["assistant_model"] = assistant
    answers: list[tuple[int, ...]] = []
    seconds = 0.0
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        width = max(len(prompt) for prompt in batch)
        tokens = torch.full((len(batch), width), 2)
        mask = torch.zeros(len(batch), width, dtype=torch.int64)
        for row, prompt in enumerate(batch):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        begun = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(tokens, attention_mask=mask, generation_config=generation, **more)
        seconds += time.perf_counter() - begun
        answers.extend(tuple(row) for row in out[:, width:].tolist())
    return seconds, answers
