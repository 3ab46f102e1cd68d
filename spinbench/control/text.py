"""The tokens of the requests of a run: as they are generated, or as they were recorded."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.jobs.job import TokenSpans
from spinbench.workload.acceptance.agreement import MAX_AGREED, NOTHING_TO_COMPARE
from spinbench.workload.acceptance.ngram_model import NO_TOKEN, NgramModel
from spinbench.workload.acceptance.probability import decode_probability
from spinbench.workload.request import Request


class Text(Protocol):
    """Follows each request's tokens; requests are named by row."""

    def append(self, rows: IntArray, token_ids: IntArray, num_tokens: IntArray) -> None:
        """Take in emitted tokens, int [requests, width], of which the first `num_tokens` of each request count."""
        ...

    def match_order(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """Longest n-gram (0 to 3 tokens) at the end of each context that occurred before in it, int [requests]."""
        ...

    def lookup_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """Tokens that would be copied alike from the longest match and from the one before it, int [requests];
        `NOTHING_TO_COMPARE` without two matches, or where that is not known."""
        ...

    def ngram_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """Tokens, at most `MAX_AGREED`, that the run's n-gram table and a copy from the longest match would draft
        alike, int [requests]; `NOTHING_TO_COMPARE` without a match, and where nobody knows."""
        ...

    def newest_token_ids(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """The last token of each context, int [requests]; -1 where only lengths are known."""
        ...

    def lookup_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[IntArray, BoolArray]:
        """What prompt lookup would have done at `width` output positions of each request, from `num_output_tokens` on.

        Order of the match, int [requests, width], and whether the token that followed the latest match of exactly 1, 2,
        3 tokens was the right one, bool [requests, width, 3]. What lies behind the tokens so far has no meaning.
        """
        ...

    def ngram_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[FloatArray, BoolArray]:
        """What the run's n-gram table says in front of `width` output positions of each request, from
        `num_output_tokens` on: its confidence, and whether the token that it names is the one that stands there,
        [requests, width] each. At and behind the newest token's end only the first confidence has a meaning."""
        ...

    def prompt_token_ids(self, row: int) -> tuple[int, ...]:
        """The prompt; empty where only its length is known."""
        ...

    def output_token_ids(self, row: int, num_tokens: int) -> tuple[int, ...]:
        """The first `num_tokens` of the answer; empty where only lengths are known."""
        ...


class LiveText:
    """Tokens as a real model emits them, with the n-gram index that prompt lookup reads."""

    def __init__(
        self, requests: Sequence[Request], prompts: Mapping[str, tuple[int, ...]], ngrams: NgramModel | None = None
    ) -> None:
        """`ngrams` is the table that a drafter of the run asks."""
        self.seeds = np.array([request.seed for request in requests], np.int64)
        self.num_prompt_tokens = [len(prompts[request.id]) for request in requests]
        self._token_ids = [
            np.concatenate((prompts[request.id], np.zeros(request.max_new_tokens, np.int64))).astype(np.int64)
            for request in requests
        ]
        self._num_tokens = list(self.num_prompt_tokens)
        self._lookups = [NgramIndex(prompts[request.id]) for request in requests]
        self._ngrams = ngrams

    def append(self, rows: IntArray, token_ids: IntArray, num_tokens: IntArray) -> None:
        """Write the tokens behind the others."""
        for row, tokens, count in zip(rows.tolist(), token_ids, num_tokens.tolist(), strict=True):
            start = self._num_tokens[row]
            self._token_ids[row][start : start + count] = tokens[:count]
            self._num_tokens[row] = start + count
            self._lookups[row].extend(tokens[:count].tolist())

    def match_order(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """From each request's index."""
        return np.array([self._lookups[row].match_order() for row in rows.tolist()], np.int64)

    def lookup_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """From each request's index."""
        return np.array([self._lookups[row].agreed_run() for row in rows.tolist()], np.int64)

    def ngram_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """By making both drafts."""
        agreed = np.full(len(rows), NOTHING_TO_COMPARE)
        copies = [self.lookup(row, MAX_AGREED, NgramIndex.MAX_ORDER, 1) for row in rows.tolist()]
        found = np.flatnonzero([bool(copy) for copy in copies])
        if self._ngrams is None or not len(found):
            return agreed
        contexts = self.context_ends(rows[found], self._ngrams.context_tokens)
        agreed[found] = self._ngrams.agreed(contexts, np.array([copies[place] for place in found.tolist()]))
        return agreed

    def newest_token_ids(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """As written."""
        return np.array([self._token_ids[row][self._num_tokens[row] - 1] for row in rows.tolist()], np.int64)

    def lookup_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[IntArray, BoolArray]:
        """From each request's index."""
        codes = np.zeros((len(rows), width), np.int64)
        for place, (row, first) in enumerate(zip(rows.tolist(), num_output_tokens.tolist(), strict=True)):
            start = self.num_prompt_tokens[row] + first
            known = np.frombuffer(self._lookups[row].hindsight[start : start + width], np.uint8)
            codes[place, : len(known)] = known
        return codes & 3, (codes[..., None] >> np.arange(2, 2 + NgramIndex.MAX_ORDER) & 1).astype(np.bool_)

    def ngram_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[FloatArray, BoolArray]:
        """By asking the table again; confidence 0 without one."""
        shape = len(rows), width
        if self._ngrams is None:
            return np.zeros(shape), np.zeros(shape, np.bool_)
        count = self._ngrams.context_tokens
        places = zip(rows.tolist(), num_output_tokens.tolist(), strict=True)
        tokens = self._windows(
            rows, [self.num_prompt_tokens[row] + first - count for row, first in places], count + width
        )
        contexts = np.lib.stride_tricks.sliding_window_view(tokens[:, :-1], count, axis=1)
        said, code = self._ngrams.predict(contexts.reshape(-1, count))
        return decode_probability(code).reshape(shape), said.reshape(shape) == tokens[:, count:]

    def context_ends(self, rows: IntArray, count: int) -> IntArray:
        """The newest `count` tokens of each context, int [requests, count]; `NO_TOKEN` before its first one."""
        return self._windows(rows, [self._num_tokens[row] - count for row in rows.tolist()], count)

    def _windows(self, rows: IntArray, starts: Sequence[int], width: int) -> IntArray:
        """The `width` tokens from each of `starts` on, int [requests, width]; `NO_TOKEN` outside the text."""
        tokens = np.full((len(rows), width), NO_TOKEN)
        for place, (row, start) in enumerate(zip(rows.tolist(), starts, strict=True)):
            text, first = self._token_ids[row], max(0, -start)
            tokens[place, first : len(text) - start] = text[start + first : start + width]
        return tokens

    def prompt_token_ids(self, row: int) -> tuple[int, ...]:
        """As given."""
        return tuple(self._token_ids[row][: self.num_prompt_tokens[row]].tolist())

    def output_token_ids(self, row: int, num_tokens: int) -> tuple[int, ...]:
        """As emitted."""
        start = self.num_prompt_tokens[row]
        return tuple(self._token_ids[row][start : start + num_tokens].tolist())

    def token_ids(self, row: int, start: int, stop: int) -> IntArray:
        """Tokens at positions `start` to `stop` of prompt and answer, a view of int [stop - start]."""
        return self._token_ids[row][start:stop]

    def span_token_ids(self, spans: TokenSpans) -> IntArray:
        """The tokens of all spans behind each other."""
        triples = zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True)
        return np.concatenate([self._token_ids[row][start:stop] for row, start, stop in triples])

    def max_tokens(self, row: int) -> int:
        """Prompt and answer at the most."""
        return len(self._token_ids[row])

    def lookup(self, row: int, num_tokens: int, max_order: int, min_order: int) -> list[int]:
        """What prompt lookup drafts, see `NgramIndex.draft`."""
        return self._lookups[row].draft(num_tokens, max_order, min_order)
