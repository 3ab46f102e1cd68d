"""What a decision may know of a drafter."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class DrafterInfo:
    """One arm: a model with weights and a KV cache, prompt lookup with neither, or both in one.

    `lookup_then_model` copies where the newest tokens occurred before and asks its model elsewhere: small models are
    poor at copying, and copying is free.
    """

    name: str
    kind: Literal["model", "prompt_lookup", "lookup_then_model"]
    macs_per_token: int = 0
    """Multiply-adds for one drafted token; 0 for prompt lookup."""
    max_match_tokens: int = 3
    """Prompt lookup: longest n-gram looked up (at most `NgramIndex.MAX_ORDER`)."""
    min_match_tokens: int = 1
    """Prompt lookup: shortest n-gram worth drafting from."""

    @property
    def has_kv_cache(self) -> bool:
        """Whether tokens must be prefilled into this drafter before it can draft."""
        return self.kind != "prompt_lookup"

    def drafts_by_lookup(self, match_order: IntArray) -> BoolArray:
        """Whether it copies, rather than asks a model, for requests whose newest tokens match `match_order` long."""
        if self.kind == "lookup_then_model":
            return match_order >= self.min_match_tokens
        return np.full(len(match_order), self.kind == "prompt_lookup")
