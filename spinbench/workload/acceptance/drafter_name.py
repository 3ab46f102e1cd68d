"""What a drafter's name says of it: its kind, and the model whose predictions it uses."""

from typing import Literal

DrafterKind = Literal["model", "ngram", "prompt_lookup", "lookup_then_model", "lookup_then_ngram"]

PROMPT_LOOKUP = "prompt_lookup"
"""The drafter without a model."""
LOOKUP_SUFFIX = f"+{PROMPT_LOOKUP}"
"""Behind a model's name: a drafter that copies where it can and asks the model elsewhere."""
NGRAM_SUFFIX = "-ngram"
"""At the end of a model's name: an n-gram table, not a network."""


def model_of(drafter: str) -> str | None:
    """The model whose predictions a drafter uses; None for prompt lookup."""
    return None if drafter == PROMPT_LOOKUP else drafter.removesuffix(LOOKUP_SUFFIX)


def is_ngram(drafter: str) -> bool:
    """Whether a drafter asks an n-gram table, behind a lookup or alone."""
    return drafter.removesuffix(LOOKUP_SUFFIX).endswith(NGRAM_SUFFIX)


def kind_of(drafter: str) -> DrafterKind:
    """Whether it is a network, an n-gram table, a lookup, or one of the former behind the latter."""
    if drafter == PROMPT_LOOKUP:
        return "prompt_lookup"
    if drafter.endswith(LOOKUP_SUFFIX):
        return "lookup_then_ngram" if is_ngram(drafter) else "lookup_then_model"
    return "ngram" if is_ngram(drafter) else "model"


def models_of(drafters: tuple[str, ...]) -> tuple[str, ...]:
    """The models that these drafters use, each once, in order."""
    return tuple(dict.fromkeys(name for name in map(model_of, drafters) if name is not None))
