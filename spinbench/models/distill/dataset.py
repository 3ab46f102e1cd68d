"""Self-play lines, the held-out split, the draft vocabulary and the batches of a training run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinbench.errors import UserError
from spinbench.models.distill.recipe import DrafterRecipe


@dataclass(frozen=True)
class SelfPlayLine:
    """One prompt (chat template included) and the target's greedy answer: `tokens[prompt_tokens:]`."""

    prompt_tokens: int
    tokens: NDArray[np.int64]

    @property
    def answer_tokens(self) -> int:
        """How many tokens the target answered."""
        return len(self.tokens) - self.prompt_tokens


@dataclass(frozen=True)
class Split:
    """Line numbers for training and for the score; no prompt occurs on both sides."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """The text of a distillation, split and sorted into categories."""

    lines: Sequence[SelfPlayLine]
    categories: Sequence[str]
    split: Split
    labels_folder: Path

    def training_lines(self, categories: Sequence[str] = ()) -> NDArray[np.int64]:
        """Numbers of the training lines of the given categories, of all when there are none."""
        chosen = [i for i in self.split.train if not categories or self.categories[i] in categories]
        return np.asarray(chosen, dtype=np.int64)


@dataclass(frozen=True)
class Batch:
    """Right-padded rows; `line_starts` tells which line begins where: (row, column, line number)."""

    tokens: NDArray[np.int64]  # [rows, columns]
    line_starts: tuple[tuple[int, int, int], ...]


def read_self_play(path: Path) -> list[SelfPlayLine]:
    """The lines of a self-play file: JSON `[prompt_len, token_ids]`, one a line.

    Raises UserError naming file and line when a line is not of that form.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such self-play file; generate it with `spinbench distill` or name an existing one")
    lines: list[SelfPlayLine] = []
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            try:
                prompt_tokens, ids = json.loads(text)
                tokens = np.asarray(ids, dtype=np.int64)
                usable = tokens.ndim == 1 and 0 < int(prompt_tokens) < len(tokens) and int(tokens.min()) >= 0
            except (ValueError, TypeError, OverflowError):
                usable, prompt_tokens, tokens = False, 0, np.zeros(0, dtype=np.int64)
            if not usable:
                raise UserError(
                    f"{path}:{number}: not a self-play line; expected [prompt_len, token_ids] "
                    "with 0 < prompt_len < number of ids"
                )
            lines.append(SelfPlayLine(int(prompt_tokens), tokens))
    return lines


def split_lines(lines: Sequence[SelfPlayLine], held_out_lines: int, seed: int) -> Split:
    """A seeded split; training lines whose prompt is also a held-out prompt are dropped."""
    if not 0 < held_out_lines < len(lines):
        raise UserError(
            f"distill.held_out_lines: {held_out_lines} of {len(lines)} self-play lines; keep some for training"
        )
    order = np.random.default_rng(seed).permutation(len(lines))
    held_out = np.sort(order[:held_out_lines])
    prompts = {lines[i].tokens[: lines[i].prompt_tokens].tobytes() for i in held_out}
    train = [
        i for i in np.sort(order[held_out_lines:]) if lines[i].tokens[: lines[i].prompt_tokens].tobytes() not in prompts
    ]
    return Split(np.asarray(train, dtype=np.int64), held_out)


def draft_vocabulary(
    lines: Sequence[SelfPlayLine], which: Sequence[int] | NDArray[np.int64], size: int, eos_token_id: int
) -> NDArray[np.int32]:
    """The `size` most frequent answer tokens (eos always among them) as sorted target ids, int32 [size].

    When the answers hold fewer distinct tokens, the lowest unused ids fill the rest.
    """
    counts: Counter[int] = Counter({eos_token_id: 0})
    for i in which:
        counts.update(lines[i].tokens[lines[i].prompt_tokens :].tolist())
    ranked = sorted(counts, key=lambda token: (token != eos_token_id, -counts[token], token))
    chosen = set(ranked[:size])
    filler = 0
    while len(chosen) < size:
        chosen.add(filler)
        filler += 1
    return np.asarray(sorted(chosen), dtype=np.int32)


def epoch_batches(
    lines: Sequence[SelfPlayLine],
    which: NDArray[np.int64],
    recipe: DrafterRecipe,
    generator: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Line numbers of each batch of one shuffled pass: lines of like length together, about `tokens_per_batch` each."""
    order = generator.permutation(which)
    window = 64 * max(1, recipe.tokens_per_batch // 128)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window].tolist(), key=lambda i: -len(lines[i].tokens))
        row: list[int] = []
        for i in part:
            widest = len(lines[row[0]].tokens) if row else len(lines[i].tokens)
            if row and widest * (len(row) + 1) > recipe.tokens_per_batch:
                batches.append(np.asarray(row, dtype=np.int64))
                row = []
            row.append(i)
        if row:
            batches.append(np.asarray(row, dtype=np.int64))
    return [batches[i] for i in generator.permutation(len(batches))]


def make_batch(
    lines: Sequence[SelfPlayLine], numbers: NDArray[np.int64], lines_per_row: int, pad_token_id: int
) -> Batch:
    """The token rows of a batch; lines that share a row stand behind each other, so that long distances are seen."""
    groups = [numbers[i : i + lines_per_row] for i in range(0, len(numbers), lines_per_row)]
    columns = max(sum(len(lines[i].tokens) for i in group) for group in groups)
    tokens = np.full((len(groups), columns), pad_token_id, dtype=np.int64)
    starts: list[tuple[int, int, int]] = []
    for r, group in enumerate(groups):
        column = 0
        for i in group:
            tokens[r, column : column + len(lines[i].tokens)] = lines[i].tokens
            starts.append((r, column, int(i)))
            column += len(lines[i].tokens)
    return Batch(tokens, tuple(starts))
