"""Text that is already known: recorded, or lengths only."""

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.workload.acceptance.streams import NO_TOKEN, AcceptanceStreams


class RecordedText:
    """Answers from the streams what live text computes; `append` has nothing to do, since the future is known."""

    def __init__(self, streams: AcceptanceStreams) -> None:
        self._streams = streams
        self._unknown = np.full(len(streams.num_tokens), NO_TOKEN)
        self._unknown.flags.writeable = False
        self._no_match = np.zeros_like(self._unknown)
        self._no_match.flags.writeable = False
        self._has_matches = bool(streams.match_order.any())
        """Whether any text repeats itself; where only lengths are known none does."""

    def append(self, rows: IntArray, token_ids: IntArray, num_tokens: IntArray) -> None:
        """Nothing."""

    def match_order(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """As recorded at each request's place."""
        if not self._has_matches:
            return self._no_match[: len(rows)]
        return self._streams.match_order_at(rows, num_output_tokens)

    def lookup_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """As recorded at each request's place."""
        return self._streams.lookup_agreed_at(rows, num_output_tokens)

    def ngram_agreed(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """As recorded at each request's place."""
        return self._streams.ngram_agreed_at(rows, num_output_tokens)

    def newest_token_ids(self, rows: IntArray, num_output_tokens: IntArray) -> IntArray:
        """As recorded; every round begins behind a token of the answer."""
        if self._streams.token_ids is None:
            return self._unknown[: len(rows)]
        return self._streams.token_ids_at(rows, num_output_tokens - 1, 1)[:, 0]

    def lookup_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[IntArray, BoolArray]:
        """As recorded."""
        return self._streams.lookup_at(rows, num_output_tokens, width)

    def ngram_hindsight(self, rows: IntArray, num_output_tokens: IntArray, width: int) -> tuple[FloatArray, BoolArray]:
        """As recorded."""
        return self._streams.ngram_at(rows, num_output_tokens, width)

    def prompt_token_ids(self, row: int) -> tuple[int, ...]:
        """Prompts are not recorded."""
        return ()

    def output_token_ids(self, row: int, num_tokens: int) -> tuple[int, ...]:
        """The recorded answer; empty where only its length is known."""
        start = int(self._streams.offsets[row])
        tokens = self._streams.token_ids
        return () if tokens is None else tuple(tokens[start : start + num_tokens].tolist())
