"""The target's own next-token distribution on its answers: the 16 likeliest tokens of every position."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinbench.models.distill.dataset import SelfPlayLine

LINES_PER_SHARD = 512


class SoftLabels:
    """Read access to the shards of one folder, in order, as far as they exist (a later shard never replaces an earlier)."""

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

        Column 0 is the token that the target took; the rest are its likeliest ones, renormalised over the draft vocabulary.
        """
        answer = line.tokens[line.prompt_tokens :]
        indices = np.zeros((len(answer), 17), dtype=np.int64)
        probs = np.zeros((len(answer), 17), dtype=np.float32)
        hard = self._draft_index[answer]
        indices[:, 0] = np.maximum(hard, 0)
        probs[:, 0] = hard >= 0
        if soft is None:
            return indices, probs
        mapped = self._draft_index[soft[0]]
        mass = np.where(mapped >= 0, soft[1], 0.0).astype(np.float32)
        total = mass.sum(axis=1, keepdims=True)
        known = total[:, 0] > 0
        indices[:, 1:] = np.maximum(mapped, 0)
        probs[:, 1:] = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
        share = np.where(hard >= 0, np.where(known, self._hard_label_share, 1.0), 0.0).astype(np.float32)
        probs[:, 0] = share
        probs[:, 1:] *= (1 - share)[:, None]
        return indices, probs
