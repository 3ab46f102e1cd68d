"""A config whose values are set anew for each point of a sweep, and what it comes to as plain values."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

PLAIN_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A key with dots, without brackets, which would be another way to write the same one."""


class SweptConfig:
    """One config for all points that set the same keys: a value is set again only where it is another than before.

    What no value and no interpolation can have changed since is not resolved again, and is the same object in the plain
    values of all points, which nobody may change.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        """As the last point has it."""
        self._texts: dict[str, str] = {}
        """What was set last, by key."""
        self._moving: set[str] = set()
        """Top-level keys in which points differ."""
        self._kept: dict[str, Any] = {}
        """Plain values by top-level key."""

    def set(self, values: Sequence[Override]) -> None:
        """Set the values of a point, each of which `can_be_set_anew`, and which `lie_apart`.

        Raises HydraException as Hydra does, and is of no use afterwards.
        """
        for one in values:
            key, text = one.key_or_group, str(one.input_line)
            before = self._texts.get(key)
            if before == text:
                continue
            top = key.partition(".")[0]
            if before is not None:
                self._moving.add(top)
            self._kept.pop(top, None)
            ConfigLoaderImpl._apply_overrides_to_config([one], self.config)
            self._texts[key] = text

    def plain(self) -> dict[str, Any]:
        """All of it, resolved. Raises OmegaConfBaseException for a value left open or a broken interpolation."""
        tops = map(str, self.config)
        return {top: self._kept[top] if top in self._kept else self._resolved(top) for top in tops}

    def _resolved(self, top: str) -> Any:
        value = self.config[top]
        plain = value
        if OmegaConf.is_config(value):
            plain = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        if top not in self._moving and not self._hangs_on_others(top, value):
            self._kept[top] = plain
        return plain

    def _hangs_on_others(self, top: str, value: Any) -> bool:
        if OmegaConf.is_interpolation(self.config, top):
            return True
        return OmegaConf.is_config(value) and "${" in repr(OmegaConf.to_container(value, resolve=False))


def can_be_set_anew(value: Override) -> bool:
    """Whether setting it where another value of the same key was set before comes to what it does on a fresh config.

    Not where a key is added or deleted, or keys and values are merged.
    """
    return (
        value.type == OverrideType.CHANGE
        and value.package is None
        and PLAIN_KEY.fullmatch(value.key_or_group) is not None
        and not isinstance(value.value(), dict)
    )


def lie_apart(keys: Sequence[str]) -> bool:
    """Whether no key is another, or lies inside of it, so that it is all the same which is set first."""
    paths = sorted(tuple(key.split(".")) for key in keys)
    return all(inner[: len(outer)] != outer for outer, inner in pairwise(paths))
