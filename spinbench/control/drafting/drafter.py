"""What a decision may know of a drafter."""

from dataclasses import dataclass

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.workload.acceptance.drafter_name import DrafterKind

NEVER_COPIED = NgramIndex.MAX_ORDER + 1
"""Longer than any match that is looked for."""


@dataclass(frozen=True, slots=True)
class DrafterInfo:
    """One arm: a model with weights and a KV cache, an n-gram table or prompt lookup with neither, or two in one.

    `lookup_then_model` and `lookup_then_ngram` copy where the newest tokens occurred before and ask their model or
    table elsewhere: small models are poor at copying, and copying is free.
    """

    name: str
    kind: DrafterKind
    macs_per_token: int = 0
    """Multiply-adds for one drafted token; 0 without a network."""
    max_match_tokens: int = 3
    """Prompt lookup: longest n-gram looked up (at most `NgramIndex.MAX_ORDER`)."""
    min_match_tokens: int = 1
    """Prompt lookup: shortest n-gram worth drafting from."""

    @property
    def has_kv_cache(self) -> bool:
        """Whether tokens must be prefilled into this drafter before it can draft."""
        return self.kind in ("model", "lookup_then_model")

    @property
    def asks_ngrams(self) -> bool:
        """Whether it drafts from an n-gram table where it does not copy."""
        return self.kind in ("ngram", "lookup_then_ngram")

    @property
    def copies(self) -> bool:
        """Whether it copies where it can."""
        return self.kind in ("prompt_lookup", "lookup_then_model", "lookup_then_ngram")

    @property
    def min_copied_order(self) -> int:
        """Shortest match from which it copies, in tokens; 0 = always, `NEVER_COPIED` = it cannot."""
        if self.kind == "prompt_lookup":
            return 0
        return self.min_match_tokens if self.copies else NEVER_COPIED

    def drafts_by_lookup(self, match_order: IntArray) -> BoolArray:
        """Whether it copies, rather than asks a model, for requests whose newest tokens match `match_order` long."""
        return match_order >= self.min_copied_order
