"""An n-gram table: the token that most often followed the newest tokens in texts of the target, and how surely."""

from dataclasses import dataclass
from functools import cached_property

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
        shape = len(self.groups), len(contexts)
        keys = np.array(context_keys(contexts, self.context_tokens), np.uint64).reshape(shape)
        known, token_id, confidence = self._all_contexts
        keys = (keys | _length_bits(np.arange(len(self.groups)))[:, None])[::-1]
        place = np.searchsorted(known, keys)
        code = np.where(known[place] == keys, confidence[place], LOWEST + 1)
        # of equally sure ones the first has the longest context
        surest = code.argmin(0), np.arange(len(contexts))
        code = code[surest]
        return np.where(code > LOWEST, 0, token_id[place[surest]]), np.minimum(code, LOWEST)

    @cached_property
    def _all_contexts(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Key, token and confidence of all contexts, sorted by length and key, and one that no key is behind."""
        keys = [group.key | _length_bits(np.array(length)) for length, group in enumerate(self.groups)]
        return (
            np.concatenate([*keys, np.array([np.iinfo(np.uint64).max], np.uint64)]),
            np.concatenate([*(group.token_id for group in self.groups), [0]]).astype(np.int64),
            np.concatenate([*(group.confidence for group in self.groups), [0]]).astype(np.int64),
        )

    def draft(self, contexts: IntArray, num_tokens: int) -> tuple[IntArray, IntArray]:
        """Its next `num_tokens` tokens and the codes of their confidences, [n, num_tokens] each."""
        tokens = np.zeros((len(contexts), num_tokens), np.int64)
        code = np.zeros_like(tokens)
        for step in range(num_tokens):
            tokens[:, step], code[:, step] = self.predict(contexts)
            contexts = np.concatenate((contexts[:, 1:], tokens[:, step : step + 1]), 1)
        return tokens, code

    def agreed(self, contexts: IntArray, token_ids: IntArray) -> IntArray:
        """How many of `token_ids` [n, tokens], from the first one on, it would draft as well, [n]."""
        agreed = np.zeros(len(contexts), np.int64)
        going_on = np.arange(len(contexts))
        for step in range(token_ids.shape[1]):
            said, _ = self.predict(contexts)
            same = said == token_ids[going_on, step]
            going_on, contexts = going_on[same], np.concatenate((contexts[same, 1:], said[same, None]), 1)
            if not len(going_on):
                break
            agreed[going_on] += 1
        return agreed


def _length_bits(length: IntArray) -> npt.NDArray[np.uint64]:
    """Above the key of a context, so that contexts of all lengths are in one order."""
    return length.astype(np.uint64) << np.uint64(32)


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
