"""What prompt lookup would have found and got accepted at every position of a text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spinbench.workload.acceptance.accepted_runs import MAX_RUN
from spinbench.workload.acceptance.agreement import MAX_AGREED, NOTHING_TO_COMPARE

MAX_ORDER = 3
"""Longest n-gram that prompt lookup searches for, in tokens."""


class LookupColumns(NamedTuple):
    """Per position of the answers, all requests behind each other."""

    match_order: npt.NDArray[np.uint8]
    """[positions]: longest n-gram (0 to 3 tokens) at the end of the context that occurred before in it."""
    lookup_run: npt.NDArray[np.uint8]
    """[3, positions]: tokens accepted of a copy from the latest match of exactly 1, 2, 3 tokens; 0 without a match."""
    lookup_agreed: npt.NDArray[np.uint8]
    """[positions]: tokens, at most `MAX_AGREED`, copied alike from the longest match and from the one before it;
    `NOTHING_TO_COMPARE` without two. Known before anything is drafted."""


def lookup_columns(
    prompts: Sequence[npt.ArrayLike], token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> LookupColumns:
    """The columns for answers `token_ids`, of which `offsets` gives each request's part, behind their `prompts`.

    The rule is prompt lookup decoding with the latest match (Saxena 2023). A copy runs on into its own draft: as long
    as it is accepted its source is the text itself, so the accepted tokens are the common prefix of the text from the
    match's follower on and the text from here on.
    """
    prompt_tokens = np.array([len(np.asarray(prompt)) for prompt in prompts], np.int64)
    answer_tokens = np.diff(offsets)
    text, first = _contexts(prompts, token_ids, offsets)
    lengths = prompt_tokens + answer_tokens
    place = np.arange(len(text)) - np.repeat(first, lengths)
    end = np.repeat(first + lengths, lengths)
    answer = np.flatnonzero(place >= np.repeat(prompt_tokens, lengths))
    match_order = np.zeros(len(answer), np.uint8)
    lookup_run = np.zeros((MAX_ORDER, len(answer)), np.uint8)
    lookup_agreed = np.full(len(answer), NOTHING_TO_COMPARE, np.uint8)
    vocabulary = int(text.max(initial=0)) + 1
    gram = np.repeat(np.arange(len(lengths)), lengths)
    for order in range(1, MAX_ORDER + 1):
        gram = _longer_grams(gram, text, place, order, vocabulary)
        earlier = _previous_equal(gram)
        # the context of an answer's token ends one before it
        has_context = place[answer] >= order
        found = np.where(has_context, earlier[answer - 1], -1)
        matched = np.flatnonzero(found >= 0)
        match_order[matched] = order
        here = answer[matched]
        lookup_run[order - 1, matched] = _common_prefix(text, here, found[matched] + 1, end[here])
        before = earlier[found[matched]]
        twice = before >= 0
        lookup_agreed[matched] = NOTHING_TO_COMPARE
        lookup_agreed[matched[twice]] = _agreed(text, here[twice], found[matched[twice]] + 1, before[twice] + 1)
    return LookupColumns(match_order, lookup_run, lookup_agreed)


def _contexts(
    prompts: Sequence[npt.ArrayLike], token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Prompt and answer of every request behind each other, and where each request begins."""
    parts: list[npt.NDArray[np.int64]] = []
    first = np.zeros(len(prompts), np.int64)
    length = 0
    for row, prompt in enumerate(prompts):
        both = (np.asarray(prompt, np.int64), token_ids[offsets[row] : offsets[row + 1]].astype(np.int64))
        first[row] = length
        length += len(both[0]) + len(both[1])
        parts.extend(both)
    return np.concatenate(parts) if parts else np.empty(0, np.int64), first


def _longer_grams(
    gram: npt.NDArray[np.int64],
    text: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    order: int,
    vocabulary: int,
) -> npt.NDArray[np.int64]:
    """A number per n-gram of `order` tokens that ends at each position, from those of one token less; -1 = too short.

    Grams of different requests differ: those of no token are the requests' numbers.
    """
    longer = np.full(len(text), -1, np.int64)
    ends = np.flatnonzero(place >= order - 1)
    shorter = gram[ends] if order == 1 else gram[ends - 1]
    longer[ends] = np.unique(shorter * vocabulary + text[ends], return_inverse=True)[1].reshape(-1)
    return longer


def _previous_equal(gram: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each number last stood before, -1 = nowhere."""
    order = np.argsort(gram, kind="stable")
    before, after = order[:-1], order[1:]
    again = (gram[before] == gram[after]) & (gram[after] >= 0)
    previous = np.full(len(gram), -1, np.int64)
    previous[after[again]] = before[again]
    return previous


def _common_prefix(
    text: npt.NDArray[np.int64],
    here: npt.NDArray[np.int64],
    source: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """Equal tokens from `here` and from `source` on, up to `end` and 255."""
    length = np.zeros(len(here), np.uint8)
    active = np.arange(len(here))
    for offset in range(MAX_RUN):
        active = active[here[active] + offset < end[active]]
        active = active[text[here[active] + offset] == text[source[active] + offset]]
        if not len(active):
            break
        length[active] = offset + 1
    return length


def _agreed(
    text: npt.NDArray[np.int64],
    here: npt.NDArray[np.int64],
    latest: npt.NDArray[np.int64],
    before: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """Equal tokens of copies from `latest` and from `before`, each of which runs on into itself at `here`."""
    offsets = np.arange(MAX_AGREED)
    copies = [text[source[:, None] + offsets % (here - source)[:, None]] for source in (latest, before)]
    return np.logical_and.accumulate(copies[0] == copies[1], axis=1).sum(1).astype(np.uint8)
