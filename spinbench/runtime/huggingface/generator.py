"""Hugging Face's own `generate`, plain or assisted: a peer that we did not write, on the models that we serve."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.loaded_model import copy_sharing_weights
from spinbench.workload.request import Request


@dataclass(frozen=True, slots=True)
class Assistance:
    """Who drafts in assisted generation, which serves one request at a time."""

    drafter: DrafterModel | None
    """None = prompt lookup."""
    num_assistant_tokens: int | None
    """K, the same in every round; None = Hugging Face's own defaults: a K that grows, and a confidence threshold."""
    max_match_tokens: int = 3
    """Prompt lookup: longest n-gram looked up; its shortest is one token."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a call of `generate` gave."""

    token_ids: tuple[tuple[int, ...], ...]
    """Of each request, up to its end token or its limit."""
    stopped: tuple[bool, ...]
    """Which ended with an end token."""
    first_token_s: float
    """When the first tokens of all were there, on the clock of `time.perf_counter`."""


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


class HuggingFaceGenerator:
    """Greedy `generate` over static batches, left-padded as Hugging Face's documentation says."""

    def __init__(self, target: TargetModel, assistance: Assistance | None = None) -> None:
        self._model = _own_copy(target.model)
        self._eos_token_ids = target.eos_token_ids
        self._assistance = assistance
        self._assistant: Any = None
        if assistance is not None and assistance.drafter is not None:
            self._assistant = _assistant(assistance.drafter, target.vocab_size, assistance.num_assistant_tokens)

    def generate(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...]]) -> Answers:
        """Answer a batch, of one request if there is assistance; it ends with the request that takes longest."""
        device, width = self._model.device, max(len(prompt) for prompt in prompts)
        pad_token_id = min(self._eos_token_ids, default=0)
        tokens = torch.full((len(prompts), width), pad_token_id)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        clock = _FirstTokenClock()
        with torch.inference_mode():
            out = self._model.generate(
                tokens.to(device),
                attention_mask=mask.to(device),
                generation_config=self._generation_config(requests, pad_token_id),
                stopping_criteria=StoppingCriteriaList([_EachStops(requests, width, self._eos_token_ids, device)]),
                assistant_model=self._assistant,
                streamer=clock,
            )
        answers = [self._cut(request, row) for request, row in zip(requests, out[:, width:].tolist(), strict=True)]
        stopped = [
            not request.ignore_eos and answer[-1] in self._eos_token_ids
            for request, answer in zip(requests, answers, strict=True)
        ]
        return Answers(tuple(answers), tuple(stopped), clock.first_token_s)

    def _generation_config(self, requests: Sequence[Request], pad_token_id: int) -> GenerationConfig:
        assistance = self._assistance
        by_lookup = assistance is not None and assistance.drafter is None
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=max(request.max_new_tokens for request in requests),
            # where some ignore the end token, our criterion alone decides
            eos_token_id=None if any(r.ignore_eos for r in requests) else sorted(self._eos_token_ids) or None,
            pad_token_id=pad_token_id,
            use_cache=True,
            prompt_lookup_num_tokens=assistance.num_assistant_tokens if assistance and by_lookup else None,
            max_matching_ngram_size=assistance.max_match_tokens if assistance and by_lookup else None,
        )

    def _cut(self, request: Request, token_ids: list[int]) -> tuple[int, ...]:
        """What the request asked for: a static batch goes on to the longest."""
        kept = token_ids[: request.max_new_tokens]
        if not request.ignore_eos:
            ends = [place for place, token in enumerate(kept) if token in self._eos_token_ids]
            kept = kept[: ends[0] + 1] if ends else kept
        return tuple(kept)


class _EachStops(StoppingCriteria):
    """A request is done at its own limit or end token, whatever the others of its batch do."""

    def __init__(
        self, requests: Sequence[Request], width: int, eos_token_ids: frozenset[int], device: torch.device
    ) -> None:
        self._width = width
        self._limits = torch.tensor([request.max_new_tokens for request in requests], device=device)
        self._heeds_end = torch.tensor([not request.ignore_eos for request in requests], device=device)
        self._ends = torch.tensor(sorted(eos_token_ids), dtype=torch.int64, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> Any:
        """bool [requests]; `input_ids` are the left-padded prompts and what came behind them so far."""
        answers = input_ids[:, self._width :]
        ended = torch.isin(answers, self._ends).any(-1) & self._heeds_end
        return ended | (answers.shape[1] >= self._limits)


class _FirstTokenClock(BaseStreamer):
    """Notes when the first tokens come; `generate` hands over the prompts first."""

    def __init__(self) -> None:
        self._num_calls = 0
        self.first_token_s = float("nan")

    def put(self, value: object) -> None:
        """Tokens, on the host already."""
        self._num_calls += 1
        if self._num_calls == 2:
            self.first_token_s = time.perf_counter()

    def end(self) -> None:
        """Nothing is buffered."""


def _own_copy(model: PreTrainedModel) -> Any:
    """The same weights with Hugging Face's own attention, and no generation defaults but Hugging Face's.

    `Any`, because transformers' annotations do not show `generate` on a model.
    """
    own: Any = copy_sharing_weights(model)
    own.set_attn_implementation("sdpa")
    own.generation_config = GenerationConfig()
    return own


def _assistant(drafter: DrafterModel, vocab_size: int, num_assistant_tokens: int | None) -> Any:
    model = _own_copy(drafter.model)
    if drafter.target_ids is not None:
        head = FullVocabularyHead(model.get_output_embeddings(), drafter.target_ids, vocab_size)
        model.set_output_embeddings(head)
    if num_assistant_tokens is not None:
        model.generation_config.num_assistant_tokens = num_assistant_tokens
        model.generation_config.num_assistant_tokens_schedule = "constant"
        model.generation_config.assistant_confidence_threshold = 0.0
    return model
