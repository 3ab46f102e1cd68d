"""Turns the requests of a trace into token ids of the target."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import BatchEncoding

from spinbench.errors import UserError
from spinbench.models.checkpoint import quiet_transformers
from spinbench.models.loaded_model import TargetModel


class PromptRequest(Protocol):
    """What is read of a `workload.Request`; the two packages share a floor and do not import each other."""

    @property
    def id(self) -> str:
        """Named in errors."""
        ...

    @property
    def prompt(self) -> str | None:
        """Text of the user's turn."""
        ...

    @property
    def prompt_token_ids(self) -> tuple[int, ...] | None:
        """Token ids, used as they are."""
        ...

    @property
    def prompt_len_tokens(self) -> int | None:
        """A length alone."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Answer tokens that the context must hold beside the prompt."""
        ...

    @property
    def seed(self) -> int:
        """Draws the ids of a length."""
        ...


def tokenize_requests(
    requests: Sequence[PromptRequest], target: TargetModel, use_chat_template: bool
) -> list[tuple[int, ...]]:
    """Prompt token ids per request, in order.

    A text becomes the user's turn of the tokenizer's chat template (when wanted and there is one), else plain tokens.
    Given token ids are used as they are; of a length alone, ids are drawn from the request's seed. Raises UserError
    when ids are outside the vocabulary, text meets no tokenizer, or prompt and answer exceed the model's context.
    """
    texts = [request.prompt for request in requests if request.prompt is not None]
    encoded = iter(_encode(texts, target, use_chat_template)) if texts else iter(())
    ordinary = _ordinary_token_ids(target)
    prompts: list[tuple[int, ...]] = []
    for request in requests:
        if request.prompt is not None:
            prompt = next(encoded)
        elif request.prompt_token_ids is not None:
            prompt = request.prompt_token_ids
        else:
            prompt = _drawn_token_ids(request, ordinary)
        _check(request, prompt, target)
        prompts.append(prompt)
    return prompts


def _encode(texts: list[str], target: TargetModel, use_chat_template: bool) -> list[tuple[int, ...]]:
    tokenizer = target.tokenizer
    if tokenizer is None:
        raise UserError(
            f"target {target.name!r} has no tokenizer, but the trace holds prompts as text; "
            "give prompt_token_ids in the trace or a model folder with tokenizer files"
        )
    with quiet_transformers():  # it warns of long prompts, which are refused below by name
        if use_chat_template and tokenizer.chat_template is not None:
            chats = [[{"role": "user", "content": text}] for text in texts]
            batch = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=True, return_dict=True)
        else:
            batch = tokenizer(texts)
    if not isinstance(batch, BatchEncoding):
        raise TypeError(f"{type(tokenizer).__name__} returned {type(batch).__name__}, expected a BatchEncoding")
    return [tuple(ids) for ids in batch["input_ids"]]


def _ordinary_token_ids(target: TargetModel) -> NDArray[np.int64]:
    """All ids that are text: neither special nor the end of an answer."""
    special = set(target.eos_token_ids)
    if target.tokenizer is not None:
        special.update(target.tokenizer.all_special_ids)
        special.update(target.tokenizer.added_tokens_decoder)
    return np.setdiff1d(np.arange(target.vocab_size, dtype=np.int64), np.fromiter(special, np.int64))


def _drawn_token_ids(request: PromptRequest, ordinary: NDArray[np.int64]) -> tuple[int, ...]:
    if request.prompt_len_tokens is None:
        raise UserError(f"request {request.id!r}: it has no prompt, no prompt_token_ids and no prompt_len_tokens")
    generator = np.random.default_rng(request.seed)
    return tuple(generator.choice(ordinary, size=request.prompt_len_tokens).tolist())


def _check(request: PromptRequest, prompt: tuple[int, ...], target: TargetModel) -> None:
    if not prompt:
        raise UserError(f"request {request.id!r}: its prompt has no token; at least one is needed")
    outside = next((token for token in prompt if not 0 <= token < target.vocab_size), None)
    if outside is not None:
        raise UserError(
            f"request {request.id!r}: token id {outside} is outside the vocabulary of target {target.name!r} "
            f"(0 to {target.vocab_size - 1})"
        )
    total = len(prompt) + request.max_new_tokens
    if total > target.max_model_len_tokens:
        raise UserError(
            f"request {request.id!r}: {len(prompt)} prompt tokens + max_new_tokens {request.max_new_tokens} = {total}, "
            f"more than the {target.max_model_len_tokens} tokens that target {target.name!r} can hold"
        )
