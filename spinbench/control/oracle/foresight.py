"""A run that is known in advance: its texts, and what would become of every draft."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.workload.acceptance.drafter_name import models_of
from spinbench.workload.acceptance.lookup import MAX_ORDER
from spinbench.workload.acceptance.streams import AcceptanceStreams


@dataclass(frozen=True, eq=False)
class Foresight:
    """The requests of a run, row by row as in `streams`. Raises ValueError where its parts are of different runs."""

    streams: AcceptanceStreams
    drafters: tuple[DrafterInfo, ...]
    num_prompt_tokens: IntArray
    max_new_tokens: IntArray

    def __post_init__(self) -> None:
        names = tuple(drafter.name for drafter in self.drafters)
        if names != self.streams.drafters:
            raise ValueError(f"the streams are of drafters {self.streams.drafters}, not {names}")
        count = len(self.streams.num_tokens)
        if not len(self.num_prompt_tokens) == len(self.max_new_tokens) == count:
            raise ValueError(f"the streams have {count} requests; give as many lengths")

    @classmethod
    def of_no_requests(cls, drafters: tuple[DrafterInfo, ...]) -> "Foresight":
        """Of a run in which nothing is served: what selectors are checked with before a run."""
        names, none = tuple(drafter.name for drafter in drafters), np.zeros(0, np.int64)
        run, lookup_run = np.zeros((len(models_of(names)), 0), np.uint8), np.zeros((MAX_ORDER, 0), np.uint8)
        streams = AcceptanceStreams(
            names, np.zeros(1, np.int64), run, np.zeros(0, np.uint8), lookup_run, np.zeros(0, np.bool_)
        )
        return cls(streams, drafters, none, none)

    @cached_property
    def contexts(self) -> FloatArray:
        """Every context length that a round can begin with, in whole tokens rising by 1; at least one."""
        with_rounds = self.streams.num_tokens > 1
        shortest = self.num_prompt_tokens[with_rounds] + 1
        longest = self.num_prompt_tokens[with_rounds] + self.streams.num_tokens[with_rounds] - 1
        last = longest.max(initial=1)
        return np.arange(shortest.min(initial=last), last + 1, dtype=np.float64)

    def of_drafter(
        self, drafter: int, rows: IntArray, num_output_tokens: IntArray, by_model: BoolArray | bool = False
    ) -> tuple[IntArray, BoolArray]:
        """What becomes of a draft that is long enough: tokens accepted, and whether they are copied, [n] each.

        `by_model` says which are not, whatever matches: those that were made ahead.
        """
        info, streams = self.drafters[drafter], self.streams
        by_lookup = info.drafts_by_lookup(streams.match_order_at(rows, num_output_tokens)) & ~np.asarray(by_model)
        order = (info.max_match_tokens, info.min_match_tokens)
        return streams.accepted_run(rows, num_output_tokens, drafter, by_lookup, *order), by_lookup

    def finds(self, drafter: int, rows: IntArray, num_output_tokens: IntArray) -> BoolArray:
        """Whether a lookup of this drafter has anything to copy, [n]."""
        info = self.drafters[drafter]
        return self.streams.lookup_finds(rows, num_output_tokens, info.max_match_tokens, info.min_match_tokens)
