"""Where drafted tokens can come from: models, the n-gram table, copying; several drafters may share a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.request_table import NO_DRAFTER
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX

NO_SOURCE = -1


@dataclass(frozen=True)
class DraftSources:
    """The models of a run, in order, behind them the n-gram table, and last copying, where drafters have them.

    `NAME` and `NAME+prompt_lookup` ask one model, and all lookups copy the same tokens, so that what is learned of one
    holds for the other. Among the drafters of a source the first that can is taken: a drafter of that alone before one
    that does both, so that a model's KV is kept in one place.
    """

    num_models: int
    ngrams: bool
    """Whether there is a source that is an n-gram table: the first behind the models."""
    copies: bool
    """Whether there is a source that copies: the last one."""
    max_match_tokens: int
    """Longest n-gram that a copy is looked up by."""
    by_source: tuple[tuple[int, ...], ...]
    """Per source, the drafters that use it, the preferred one first."""
    min_match_tokens: tuple[int, ...]
    """Per drafter: with at least so many tokens matching it copies; more than can match where it never does."""

    @classmethod
    def of(cls, drafters: Sequence[DrafterInfo]) -> "DraftSources":
        """The sources of these drafters. All that copy must look up equally long n-grams."""
        of_model: dict[str, list[int]] = {
            drafter.name.removesuffix(LOOKUP_SUFFIX): [] for drafter in drafters if drafter.has_kv_cache
        }
        of_ngrams: list[int] = []
        copying: list[int] = []
        never = 1 + max((drafter.max_match_tokens for drafter in drafters), default=0)
        shortest: list[int] = []
        # drafters that do one thing come first
        for place in sorted(range(len(drafters)), key=lambda place: drafters[place].kind.startswith("lookup_then")):
            drafter = drafters[place]
            if drafter.has_kv_cache:
                of_model[drafter.name.removesuffix(LOOKUP_SUFFIX)].append(place)
            if drafter.asks_ngrams:
                of_ngrams.append(place)
            if drafter.copies:
                copying.append(place)
        for drafter in drafters:
            shortest.append(drafter.min_match_tokens if drafter.copies else never)
        return cls(
            num_models=len(of_model),
            ngrams=bool(of_ngrams),
            copies=bool(copying),
            max_match_tokens=max((drafters[place].max_match_tokens for place in copying), default=0),
            by_source=(*map(tuple, of_model.values()), *(tuple(free) for free in (of_ngrams, copying) if free)),
            min_match_tokens=tuple(shortest),
        )

    def __len__(self) -> int:
        """Sources."""
        return len(self.by_source)

    @cached_property
    def drafter_table(self) -> IntArray:
        """The drafter of each source by matched tokens, int [orders, sources]; -1 = there is none."""
        order = np.minimum(np.arange(NgramIndex.MAX_ORDER + 1), self.max_match_tokens)
        table = np.full((len(order), len(self)), NO_DRAFTER, np.int64)
        for source, places in enumerate(self.by_source):
            is_copy = self.copies and source == len(self) - 1
            for place in reversed(places):
                copies: BoolArray = order >= self.min_match_tokens[place]
                table[copies if is_copy else ~copies, source] = place
        return table

    def of_drafters(self, drafter: IntArray, match_order: IntArray) -> IntArray:
        """What each request's drafter would draft from, int [requests]; -1 where nothing can be drafted."""
        shortest = np.append(self.min_match_tokens, self.max_match_tokens + 1)[drafter]
        copies: BoolArray = np.minimum(match_order, self.max_match_tokens) >= shortest
        return np.where(copies, len(self) - 1, np.append(self.source_of_drafter, NO_SOURCE)[drafter])

    def missing_tokens(self, missing_kv_tokens: IntArray, drafter: IntArray, source: IntArray) -> IntArray:
        """Tokens of each request that its source has not seen, int [requests, sources]; 0 for all other sources.

        `missing_kv_tokens` [requests, drafters] of its drafters; `drafter` and `source` [requests] are its own.
        """
        missing = np.zeros((len(source), len(self)), np.int64)
        places = np.flatnonzero(source != NO_SOURCE)
        missing[places, source[places]] = missing_kv_tokens[places, drafter[places]]
        return missing

    @cached_property
    def source_of_drafter(self) -> IntArray:
        """Model or n-gram table of each drafter, as a source, int [drafters]; -1 for one that only copies."""
        found = np.full(len(self.min_match_tokens), NO_SOURCE, np.int64)
        for source, places in enumerate(self.by_source[: self.num_models + self.ngrams]):
            found[list(places)] = source
        return found
