"""Counting the n-gram table of a target from its own answers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.workload.acceptance.ngram_model import NO_TOKEN, NgramGroup, context_keys, contexts_before
from spinbench.workload.acceptance.probability import LOWEST, encode_probability

CONTEXT_TOKENS = 4


def count_ngrams(
    lines: Sequence[SelfPlayLine], which: npt.NDArray[np.int64], context_tokens: int = CONTEXT_TOKENS
) -> tuple[NgramGroup, ...]:
    """What followed every context of 1 to `context_tokens` tokens in the answers of these lines.

    Of a context c of length n that was seen N times, the likeliest follower was seen c times: its confidence is
    (c - 1/2) / (N + 1/2), an estimate that does not trust what was seen once. Contexts that would never decide are
    left out: those no surer than their own end.
    """
    contexts = np.concatenate(
        [contexts_before(lines[i].tokens, lines[i].prompt_tokens, len(lines[i].tokens), context_tokens) for i in which]
    )
    followers = np.concatenate([lines[i].tokens[lines[i].prompt_tokens :] for i in which])
    keys = context_keys(contexts, context_tokens)
    groups: list[NgramGroup] = []
    best = np.full(len(followers), LOWEST)
    for length, key in enumerate(keys, start=1):
        inside = contexts[:, -length] != NO_TOKEN
        unique, token, code = _likeliest(key[inside], followers[inside])
        place = np.searchsorted(unique, key[inside])
        better = code[place] < best[inside]
        kept = np.zeros(len(unique), np.bool_)
        kept[place[better]] = True
        groups.append(NgramGroup(unique[kept], token[kept].astype(np.int32), code[kept]))
        best[inside] = np.minimum(best[inside], code[place])
    return tuple(groups)


def _likeliest(
    key: npt.NDArray[np.uint32], follower: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Each key once, rising, with its most frequent follower (the lowest of equals) and the confidence in it."""
    pairs, counts = np.unique(key.astype(np.uint64) << np.uint64(32) | follower.astype(np.uint64), return_counts=True)
    pair_key = (pairs >> np.uint64(32)).astype(np.uint32)
    unique, first, inverse = np.unique(pair_key, return_index=True, return_inverse=True)
    total = np.bincount(inverse, counts)
    order = np.lexsort((np.arange(len(pairs)), -counts, inverse))
    winner = order[first]
    confidence = (counts[winner] - 0.5) / (total + 0.5)
    return unique, (pairs[winner] & np.uint64(0xFFFFFFFF)).astype(np.int64), encode_probability(confidence)
