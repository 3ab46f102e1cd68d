"""The target's own next-token distribution on its answers: the 16 likeliest tokens of every position."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from spinbench.models.distill.dataset import SelfPlayLine, make_batch
from spinbench.whole_file import whole_file

LINES_PER_SHARD = 512
LABELS_PER_TOKEN = 16


class SoftLabels:
    """Read access to the shards of one folder, in order, up to the first one missing."""

    def __init__(self, folder: Path, lines: Sequence[SelfPlayLine], max_shards: int | None = None) -> None:
        """Load `shard_0000.npz`, `shard_0001.npz`, ... up to the first one missing, or the first `max_shards`."""
        self._ids: list[NDArray[np.int64]] = []
        self._probs: list[NDArray[np.float32]] = []
        self.shards = 0
        while max_shards is None or self.shards < max_shards:
            path = folder / f"shard_{self.shards:04d}.npz"
            if not path.is_file():
                break
            with np.load(path) as shard:
                ids = shard["ids"].astype(np.int64)
                probs = np.exp(shard["logprobs"].astype(np.float32))
            offset = 0
            first = self.shards * LINES_PER_SHARD
            for line in lines[first : first + LINES_PER_SHARD]:
                self._ids.append(ids[offset : offset + line.answer_tokens])
                self._probs.append(probs[offset : offset + line.answer_tokens])
                offset += line.answer_tokens
            self.shards += 1

    def __len__(self) -> int:
        """How many lines, counted from the first, have labels."""
        return len(self._ids)

    def of_line(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Ids and probabilities, [answer tokens, 16] each, or None where no label exists."""
        if number >= len(self._ids):
            return None
        return self._ids[number], self._probs[number]


def label_answers(
    model: PreTrainedModel,
    lines: Sequence[SelfPlayLine],
    folder: Path,
    report: Callable[[int], None] | None = None,
    rows: int = 8,
) -> None:
    """Write the shards that `folder` lacks, one after the other; `report` gets the number of lines labelled so far.

    `rows` lines go through the model at once; all their logits are in memory together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(lines), LINES_PER_SHARD):
        part = lines[first : first + LINES_PER_SHARD]
        path = folder / f"shard_{first // LINES_PER_SHARD:04d}.npz"
        if not path.is_file() or _shard_tokens(path) != sum(line.answer_tokens for line in part):
            ids, logprobs = _label_lines(model, part, rows)
            # an open file: to a name without .npz numpy would add it
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, ids=ids, logprobs=logprobs)
        if report is not None:
            report(first + len(part))


def _shard_tokens(path: Path) -> int:
    with np.load(path) as shard:
        return len(shard["ids"])


def _label_lines(
    model: PreTrainedModel, lines: Sequence[SelfPlayLine], rows: int
) -> tuple[NDArray[np.integer], NDArray[np.float16]]:
    """Ids and log-probabilities [answer tokens of all lines, 16], lines in order."""
    order = sorted(range(len(lines)), key=lambda i: len(lines[i].tokens))
    found: dict[int, tuple[NDArray[np.integer], NDArray[np.float16]]] = {}
    with torch.inference_mode():
        for start in range(0, len(order), rows):
            numbers = np.asarray(order[start : start + rows], dtype=np.int64)
            # padding stands right of all that is read, so its id does not matter
            batch = make_batch(lines, numbers, 1, 0)
            tokens = torch.from_numpy(batch.tokens).to(model.device)
            all_logits = model(input_ids=tokens, use_cache=False).logits
            for row, _, number in batch.line_starts:
                line = lines[number]
                logits = all_logits[row, line.prompt_tokens - 1 : len(line.tokens) - 1]
                top = logits.topk(min(LABELS_PER_TOKEN, logits.shape[-1]), dim=-1)
                logprobs = top.values.float() - logits.float().logsumexp(-1, keepdim=True)
                ids = top.indices.cpu().numpy()
                found[number] = (
                    ids.astype(np.uint16 if logits.shape[-1] <= 65536 else np.int32),
                    logprobs.half().cpu().numpy(),
                )
    return np.concatenate([found[i][0] for i in range(len(lines))]), np.concatenate(
        [found[i][1] for i in range(len(lines))]
    )


class LabelMixer:
    """Turns a line into training targets over the draft vocabulary."""

    def __init__(self, target_ids: NDArray[np.int32], vocab_size: int, hard_label_share: float) -> None:
        self._draft_index = np.full(vocab_size, -1, dtype=np.int64)
        self._draft_index[target_ids] = np.arange(len(target_ids))
        self._hard_label_share = hard_label_share

    def targets(
        self, line: SelfPlayLine, soft: tuple[NDArray[np.int64], NDArray[np.float32]] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Draft-vocabulary indices and probabilities, [answer tokens, 17] each; a row of zeros carries no loss.

        Column 0 is the token that the target took; the rest are its likeliest, renormalised over the draft vocabulary.
        """
        answer = line.tokens[line.prompt_tokens :]
        columns = LABELS_PER_TOKEN + 1
        indices = np.zeros((len(answer), columns), dtype=np.int64)
        probs = np.zeros((len(answer), columns), dtype=np.float32)
        hard = self._draft_index[answer]
        indices[:, 0] = np.maximum(hard, 0)
        probs[:, 0] = hard >= 0
        if soft is None:
            return indices, probs
        mapped = self._draft_index[soft[0]]
        mass = np.where(mapped >= 0, soft[1], 0.0).astype(np.float32)
        total = mass.sum(axis=1, keepdims=True)
        known = total[:, 0] > 0
        given = 1 + mapped.shape[1]  # a vocabulary smaller than 16 gives fewer
        indices[:, 1:given] = np.maximum(mapped, 0)
        probs[:, 1:given] = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
        share = np.where(hard >= 0, np.where(known, self._hard_label_share, 1.0), 0.0).astype(np.float32)
        probs[:, 0] = share
        probs[:, 1:] *= (1 - share)[:, None]
        return indices, probs
