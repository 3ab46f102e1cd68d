"""What a target answered, as drafters read it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinbench.control.arrays import IntArray


@dataclass(frozen=True, eq=False)
class WrittenTexts:
    """Prompts and the answers to them, as token ids."""

    prompts: Sequence[Sequence[int]]
    token_ids: IntArray
    """Answers of all requests behind each other, int [positions]."""
    offsets: IntArray
    """[requests + 1]: where each answer begins."""
    seeds: IntArray
    """[requests]: of the sampling noise."""
    max_new_tokens: IntArray
    """[requests]: tokens that were asked for; an answer may have ended before."""

    def tokens(self, row: int) -> IntArray:
        """Prompt and answer of a request."""
        answer = self.token_ids[self.offsets[row] : self.offsets[row + 1]]
        return np.concatenate((np.asarray(self.prompts[row], np.int64), answer.astype(np.int64)))
