"""An n-gram table: the token that most often followed the newest tokens in texts of the target, and how surely."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinbench.workload.acceptance.probability import LOWEST

IntArray = npt.NDArray[np.int64]
MAX_CONTEXT_TOKENS = 8
"""Longest context that a table may have."""
NO_TOKEN = -1
"""Stands for the tokens before a text's first one."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class NgramGroup:
    """All contexts of one length, sorted by key."""

    key: npt.NDArray[np.uint32]
    """[contexts] hash of the context's tokens, rising."""
    token_id: npt.NDArray[np.int32]
    """[contexts] what followed most often."""
    confidence: npt.NDArray[np.uint8]
    """[contexts] how often it did, coded as acceptance tables code probabilities: the lower, the surer."""


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A drafter without weights and without state: it looks at the newest tokens alone.

    Of the contexts that it knows, one for each length at most, the surest decides, the longer one at a tie. So it can
    be asked for any number of positions at once, at the cost of a binary search for each length.
    """

    name: str
    groups: tuple[NgramGroup, ...]
    """The contexts of 1, 2, ... tokens."""
    weights_sha256: str
    """Of the file that its contexts were read from."""

    @property
    def macs_per_token(self) -> int:
        """Multiply-adds for a drafted token: none."""
        return 0

    @property
    def context_tokens(self) -> int:
        """How many of the newest tokens it looks at."""
        return len(self.groups)

    def predict(self, contexts: IntArray) -> tuple[IntArray, IntArray]:
        """Likeliest next token and the code of its confidence, [n] each, of contexts int [n, context_tokens].

        A context's newest token is its last; those before a text's first one are `NO_TOKEN`. Where nothing is known the
        token is 0 and the code that of no confidence.
        """
        token_id = np.zeros(len(contexts), np.int64)
        best = np.full(len(contexts), LOWEST)
        for group, key in zip(self.groups, context_keys(contexts, self.context_tokens), strict=True):
            if len(group.key):
                place = np.minimum(np.searchsorted(group.key, key), len(group.key) - 1)
                code = group.confidence[place]
                better = (group.key[place] == key) & (code <= best)
                token_id = np.where(better, group.token_id[place], token_id)
                best = np.where(better, code, best)
        return token_id, best

    def draft(self, contexts: IntArray, num_tokens: int) -> tuple[IntArray, IntArray]:
        """Its next `num_tokens` tokens and the codes of their confidences, [n, num_tokens] each."""
        tokens = np.zeros((len(contexts), num_tokens), np.int64)
        code = np.zeros_like(tokens)
        for step in range(num_tokens):
            tokens[:, step], code[:, step] = self.predict(contexts)
            contexts = np.concatenate((contexts[:, 1:], tokens[:, step : step + 1]), 1)
        return tokens, code


def context_keys(contexts: IntArray, context_tokens: int) -> list[npt.NDArray[np.uint32]]:
    """Hashes of the newest 1, 2, ... tokens, [n] each; two contexts share one by chance once in four billion."""
    mixed = np.zeros(len(contexts), np.uint64)
    keys = []
    for back in range(1, context_tokens + 1):
        mixed = (mixed ^ (contexts[:, -back] + 1).astype(np.uint64)) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
        keys.append((mixed >> np.uint64(32)).astype(np.uint32))
    return keys


def contexts_before(token_ids: IntArray, first: int, stop: int, context_tokens: int) -> IntArray:
    """The contexts in front of positions `first` to `stop` of a text, int [stop - first, context_tokens]."""
    known = token_ids[max(0, first - context_tokens) : stop]
    tokens = np.concatenate((np.full(max(0, context_tokens - first), NO_TOKEN), known, [NO_TOKEN]))
    return np.lib.stride_tricks.sliding_window_view(tokens, context_tokens)[: stop - first]
