"""What a decision may know of a drafter."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DrafterInfo:
    """One arm: a model with weights and a KV cache, or prompt lookup with neither."""

    name: str
    kind: Literal["model", "prompt_lookup"]
    macs_per_token: int = 0
    """Multiply-adds for one drafted token; 0 for prompt lookup."""
    max_match_tokens: int = 3
    """Prompt lookup: longest n-gram looked up (at most `NgramIndex.MAX_ORDER`)."""
    min_match_tokens: int = 1
    """Prompt lookup: shortest n-gram worth drafting from."""

    @property
    def has_kv_cache(self) -> bool:
        """Whether tokens must be prefilled into this drafter before it can draft."""
        return self.kind == "model"
