"""Models loaded once per command, so that the points of a sweep do not wait for them again."""

from collections.abc import Iterable

import torch

from spinbench.models.load import DrafterModel, TargetModel, load_drafter, load_target
from spinbench.models.ngram_file import load_ngrams
from spinbench.workload.acceptance.drafter_name import is_ngram, model_of
from spinbench.workload.acceptance.ngram_model import NgramModel


class ModelShelf:
    """The last target asked for and its drafters. Models are never written to, so runs can share them."""

    def __init__(self) -> None:
        self._key: tuple[str, torch.dtype, torch.device] | None = None
        self._target: TargetModel | None = None
        self._drafters: dict[str, DrafterModel | NgramModel] = {}

    def target(self, spec: str, dtype: torch.dtype, device: torch.device) -> TargetModel:
        """The target; loaded if it is another than last time. Raises UserError as `load_target` does."""
        key = (spec, dtype, device)
        if self._target is None or self._key != key:
            self._key, self._target, self._drafters = None, None, {}  # free the memory before it is needed
            self._target = load_target(spec, dtype, device)
            self._key = key
        return self._target

    def drafter(self, spec: str) -> DrafterModel | NgramModel:
        """A drafter for the target on the shelf. Raises UserError as `load_drafter` and `load_ngrams` do."""
        if self._target is None:
            raise RuntimeError("a drafter is loaded for a target, and there is none yet")
        if spec not in self._drafters:
            load = load_ngrams if is_ngram(spec) else load_drafter
            self._drafters[spec] = load(spec, self._target)
        return self._drafters[spec]

    def drafters(self, names: Iterable[str], networks: bool = True) -> tuple[DrafterModel | NgramModel | None, ...]:
        """What each of a run's drafters asks where it does not copy; None for prompt lookup. Raises as `drafter`.

        Without `networks`, which another process has, only n-gram tables are there.
        """
        models = map(model_of, names)
        return tuple(
            None if name is None or not (networks or is_ngram(name)) else self.drafter(name) for name in models
        )


def macs_of(models: Iterable[DrafterModel | NgramModel | None]) -> dict[str, int]:
    """Multiply-adds per token, by the models' names."""
    return {model.name: model.macs_per_token for model in models if model is not None}
