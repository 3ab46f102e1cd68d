"""Reads off what a selector may know of requests before a round."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.request_table import RequestTable
from spinbench.control.text import Text
from spinbench.workload.acceptance.agreement import NOTHING_TO_COMPARE


class ContextReader:
    """Looks at the table and the text, and changes neither."""

    def __init__(
        self, table: RequestTable, text: Text, drafters: Sequence[DrafterInfo], *, compares_drafts: bool
    ) -> None:
        """`compares_drafts` says whether to look how far copies agree, which takes the host some time."""
        self._table = table
        self._text = text
        self._no_confidence, self._nothing_to_compare = np.zeros(len(table)), np.full(len(table), NOTHING_TO_COMPARE)
        for constant in (self._no_confidence, self._nothing_to_compare):
            constant.flags.writeable = False
        self._stateless = np.flatnonzero([not drafter.has_kv_cache for drafter in drafters])
        self._asks_ngrams = any(drafter.asks_ngrams for drafter in drafters)
        self._compares_copies = compares_drafts and any(drafter.copies for drafter in drafters)

    def read(self, rows: IntArray, num_waiting: int, num_in_flight: int = 0) -> RoundContext:
        """The context of these requests; `num_waiting` others are queued, `num_in_flight` other rounds in flight."""
        table = self._table
        counts = table.read(rows)
        context_tokens = counts.num_tokens
        output_tokens = context_tokens - counts.num_prompt_tokens
        held_kv_tokens = table.planned_kv_tokens_of_all(rows)
        if len(self._stateless):
            held_kv_tokens[:, self._stateless] = context_tokens[:, None]
        return RoundContext(
            rows=rows,
            category=counts.category,
            num_rounds=counts.num_rounds,
            context_tokens=context_tokens,
            output_tokens=output_tokens,
            remaining_tokens=counts.max_tokens - context_tokens,
            lookup_match_order=self._text.match_order(rows, output_tokens),
            lookup_agreed=self._lookup_agreed(rows, output_tokens),
            ngram_agreed=self._ngram_agreed(rows, output_tokens),
            ngram_confidence=self._ngram_confidence(rows, output_tokens),
            newest_token_ids=self._text.newest_token_ids(rows, output_tokens),
            last_drafter=counts.last_drafter,
            last_drafted=counts.last_drafted,
            last_accepted=counts.last_accepted,
            last_confidence=table.last_confidence[rows],
            held_kv_tokens=held_kv_tokens,
            num_waiting=num_waiting,
            num_in_flight=num_in_flight,
        )

    def _ngram_confidence(self, rows: IntArray, output_tokens: IntArray) -> FloatArray:
        if self._asks_ngrams:
            return self._text.ngram_hindsight(rows, output_tokens, 1)[0][:, 0]
        return self._no_confidence[: len(rows)]

    def _lookup_agreed(self, rows: IntArray, output_tokens: IntArray) -> IntArray:
        if self._compares_copies:
            return self._text.lookup_agreed(rows, output_tokens)
        return self._nothing_to_compare[: len(rows)]

    def _ngram_agreed(self, rows: IntArray, output_tokens: IntArray) -> IntArray:
        if self._compares_copies and self._asks_ngrams:
            return self._text.ngram_agreed(rows, output_tokens)
        return self._nothing_to_compare[: len(rows)]
