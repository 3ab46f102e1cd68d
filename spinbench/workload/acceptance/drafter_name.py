"""How a run's drafters name the recorded ones."""

PROMPT_LOOKUP = "prompt_lookup"
"""The drafter without a model."""
LOOKUP_SUFFIX = f"+{PROMPT_LOOKUP}"
"""Behind a model's name: a drafter that copies where it can and asks the model elsewhere."""


def model_of(drafter: str) -> str | None:
    """The model whose predictions a drafter uses; None for prompt lookup."""
    return None if drafter == PROMPT_LOOKUP else drafter.removesuffix(LOOKUP_SUFFIX)


def models_of(drafters: tuple[str, ...]) -> tuple[str, ...]:
    """The models that these drafters use, each once, in order."""
    return tuple(dict.fromkeys(name for name in map(model_of, drafters) if name is not None))
