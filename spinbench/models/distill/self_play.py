"""The target talks to itself: prompts that it samples at the user's turn, and its own greedy answers."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinbench.errors import UserError
from spinbench.json_file import write_json
from spinbench.models.distill.config import SelfPlayConfig
from spinbench.models.distill.dataset import read_self_play
from spinbench.models.loaded_model import TargetModel
from spinbench.whole_file import whole_file

MAX_IDLE_BATCHES = 20
"""In a row, without a prompt that is new: then it has no more to say."""
MARKER = "\u241ftext of the user\u241f"
OPENINGS = (
    "Write a Python function that", "Write a function in JavaScript", "What does this code do?\n", "Fix this code:\n",
    "Calculate", "What is the sum of", "Solve", "If a train", "A shop sells", "How many",
    "Summarize the following text:", "Translate to French:", "Extract the names from this text:", "List five",
    "Write a story about", "Write a poem about", "Once upon a time", "Describe", "Explain", "Why",
    "What is the capital of", "Who was", "When did", "How do I", "Can you", "I feel", "Hello", "Compare",
)  # fmt: skip


@dataclass(frozen=True)
class ChatFrame:
    """The token ids around a user's turn; `end_ids` end it, and they and the target's eos end an answer."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    end_ids: frozenset[int]


def chat_frame(target: TargetModel) -> ChatFrame:
    """The frame that the tokenizer's chat template puts around a user's turn; without a template, bos and a new line.

    Raises UserError when the target has no tokenizer.
    """
    tokenizer = target.tokenizer
    if tokenizer is None:
        raise UserError(
            f"target {target.name!r} has no tokenizer: it cannot make up prompts; give distill.self_play.file"
        )
    if tokenizer.chat_template is None:
        bos = [tokenizer.bos_token_id] if isinstance(tokenizer.bos_token_id, int) else sorted(target.eos_token_ids)[:1]
        newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
        return ChatFrame(tuple(bos), tuple(newline), frozenset(newline) | target.eos_token_ids)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARKER}], add_generation_prompt=True, tokenize=False
    )
    if not isinstance(text, str) or text.count(MARKER) != 1:
        raise UserError(f"target {target.name!r}: its chat template does not repeat the user's text once")
    before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in text.split(MARKER))
    return ChatFrame(tuple(before), tuple(after), frozenset(after[:1]) | target.eos_token_ids)


def generate_self_play(
    target: TargetModel,
    config: SelfPlayConfig,
    path: Path,
    seed: int,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Fill `path` up to `config.lines` lines and return it; `report` gets (lines, lines wanted).

    Batch i depends on seed and i alone, and a batch is kept whole or not at all: an interrupted run goes on with the
    next batch. Prompts that occurred before are dropped.
    """
    state_path = path.with_suffix(".state.json")
    state = _start(path, state_path, config)
    lines = read_self_play(path) if path.stat().st_size else []
    prompts = {line.tokens[: line.prompt_tokens].tobytes() for line in lines}
    count = len(lines)
    if report is not None:
        report(min(count, config.lines), config.lines)
    frame = chat_frame(target) if count < config.lines else None
    idle_batches = 0
    while frame is not None and count < config.lines:
        fresh: list[str] = []
        for prompt, answer in _batch(target, frame, config, seed, state["batches"]):
            key = np.asarray(prompt, dtype=np.int64).tobytes()
            if answer and key not in prompts and count + len(fresh) < config.lines:
                prompts.add(key)
                fresh.append(json.dumps([len(prompt), [*prompt, *answer]], separators=(",", ":")) + "\n")
        idle_batches = 0 if fresh else idle_batches + 1
        if idle_batches == MAX_IDLE_BATCHES:
            raise UserError(
                f"target {target.name!r}: {MAX_IDLE_BATCHES} batches brought no new prompt; {count} lines in {path} is "
                "what it has"
            )
        with path.open("a", encoding="utf-8") as file:
            file.writelines(fresh)
            file.flush()
            os.fsync(file.fileno())
        count += len(fresh)
        state = {"batches": state["batches"] + 1, "bytes": path.stat().st_size}
        write_json(state_path, state)
        if report is not None:
            report(count, config.lines)
    return path


def _start(path: Path, state_path: Path, config: SelfPlayConfig) -> dict[str, int]:
    """The state to go on from; what a killed run wrote beyond it is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if state_path.is_file() and path.is_file():
        state: dict[str, int] = json.loads(state_path.read_text(encoding="utf-8"))
        with path.open("r+b") as file:
            file.truncate(state["bytes"])
        return state
    with whole_file(path) as temporary:
        if config.file is None:
            temporary.write_bytes(b"")
        else:
            read_self_play(Path(config.file))  # refused now rather than after hours
            shutil.copyfile(config.file, temporary)
            if temporary.stat().st_size and not temporary.read_bytes().endswith(b"\n"):
                with temporary.open("ab") as file:
                    file.write(b"\n")
    state = {"batches": 0, "bytes": path.stat().st_size}
    write_json(state_path, state)
    return state


def _batch(
    target: TargetModel, frame: ChatFrame, config: SelfPlayConfig, seed: int, number: int
) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer) token ids of one batch."""
    generator = np.random.default_rng([seed, number])
    tokenizer = target.tokenizer
    assert tokenizer is not None
    starts: list[list[int]] = []
    for _ in range(config.batch_lines):
        opening: list[int] = []
        if generator.random() < config.opening_share:
            text = OPENINGS[int(generator.integers(len(OPENINGS)))]
            opening = list(tokenizer(text, add_special_tokens=False)["input_ids"])[: config.prompt_tokens]
        starts.append([*frame.prefix, *opening])
    stop = sorted(frame.end_ids)
    # a fork of torch's generator, because `generate` takes none: the caller's random state stays as it is
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(int(generator.integers(2**62)))
        turns = _generate(
            target, starts, stop, config.prompt_tokens, do_sample=True, temperature=1.0, top_p=config.top_p, top_k=0
        )
        room = len(frame.prefix) + config.prompt_tokens
        prompts = [
            [*start, *_until(turn, frame.end_ids)][:room] + list(frame.suffix)
            for start, turn in zip(starts, turns, strict=True)
        ]
        prompts = [p for p in prompts if len(p) > len(frame.prefix) + len(frame.suffix)]
        if not prompts:
            return []
        answers = _generate(target, prompts, sorted(target.eos_token_ids), config.answer_tokens, do_sample=False)
    return [(p, _until(a, target.eos_token_ids, keep_end=True)) for p, a in zip(prompts, answers, strict=True)]


def _until(tokens: Sequence[int], ends: frozenset[int], keep_end: bool = False) -> list[int]:
    """The tokens before the first end token, or up to and with it."""
    for i, token in enumerate(tokens):
        if token in ends:
            return list(tokens[: i + keep_end])
    return list(tokens)


def _generate(
    target: TargetModel, prompts: Sequence[Sequence[int]], stop: list[int], new_tokens: int, **sampling: Any
) -> list[list[int]]:
    """What transformers' `generate` adds to each prompt (left-padded batch)."""
    device = target.model.device
    width = max(len(p) for p in prompts)
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    generate: Callable[..., Tensor] = target.model.generate  # type: ignore[assignment]
    out = generate(
        input_ids=tokens.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=new_tokens,
        eos_token_id=stop or None,
        pad_token_id=stop[0] if stop else 0,
        **sampling,
    )
    return out[:, width:].tolist()
