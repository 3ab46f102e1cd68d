"""Composes the points of a sweep: Hydra once per combination of choices, values set on what it gave.

Hydra reads and merges every file anew for each point, which takes longer than many a simulation. What it composes
depends on choices of groups alone; values are set on it afterwards, in the order of the command line. So points that
differ only in values share one composition, and of what it comes to all that they have in common.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from spinbench.cli.count_display import counted
from spinbench.cli.hydra_app.composition_cache import CompositionCache
from spinbench.cli.hydra_app.config_loader import is_choice
from spinbench.cli.hydra_app.folder_names import FolderNames
from spinbench.cli.hydra_app.swept_config import SweptConfig, can_be_set_anew, lie_apart


@dataclass(frozen=True)
class Composed:
    """One combination, composed."""

    config: DictConfig | Mapping[str, Any]
    """Without the `hydra` node: resolved, points sharing the parts that they have in common; as it was composed where
    it cannot be resolved."""
    folder: Path
    """As `hydra.sweep.dir` and `hydra.sweep.subdir` name it."""
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    """As they were written: an interpolation in one stays an interpolation."""


def compose_sweep(hydra: Hydra, master: DictConfig, task_overrides: Sequence[str]) -> list[Composed]:
    """Every combination of a sweep in Hydra's order; `master` is its config without what is swept."""
    return next(compose_sweeps(hydra, master, [task_overrides]))


def compose_sweeps(hydra: Hydra, master: DictConfig, sweeps: Iterable[Sequence[str]]) -> Iterator[list[Composed]]:
    """As `compose_sweep`, for one list of overrides after another; what Hydra composes is shared between them."""
    given = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    composer = _Composer(hydra.config_loader, master)
    for task_overrides in sweeps:
        parsed = parser.parse_overrides([*given, *task_overrides])
        combinations = BasicSweeper.split_arguments(parsed, None)[0]
        with counted("composing points", list(enumerate(combinations))) as numbered:
            composed = [composer.compose(number, overrides) for number, overrides in numbered]
        yield composed


@dataclass(frozen=True)
class _Chosen:
    """What a combination of choices comes to."""

    blank: DictConfig
    """Without the `hydra` node, and without values."""
    choices: Mapping[str, str]
    """Of every group."""
    names: FolderNames


@dataclass(frozen=True)
class _Parsed:
    """An override."""

    text: str
    override: Override
    is_choice: bool
    can_be_set_anew: bool


class _Composer:
    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader: ConfigLoaderImpl = loader
        self._master = master
        of_hydra: Any = OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False)
        _, self._repository = loader._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, of_hydra)
        self._parsed: dict[str, _Parsed] = {}
        self._known: dict[tuple[str, ...], _Chosen] = {}
        """By choices, as is the next."""
        self._blanks = CompositionCache()
        self._swept: dict[tuple[tuple[str, ...], tuple[str, ...]], SweptConfig] = {}
        """By choices, and keys of values."""

    def compose(self, number: int, overrides: Sequence[str]) -> Composed:
        parsed = [self._parse(text) for text in overrides]
        choices = tuple(one.text for one in parsed if one.is_choice)
        chosen = self._chosen(choices)
        swept = self._with_values(choices, chosen, [one for one in parsed if not one.is_choice])
        folder = chosen.names.folder(swept.config, number, overrides, [one.override for one in parsed])
        try:
            config: DictConfig | Mapping[str, Any] = swept.plain()
        except OmegaConfBaseException:
            config = copy.deepcopy(swept.config)  # whoever asks for its values says what is wrong with it
        return Composed(config, folder, chosen.choices, tuple(overrides))

    def _parse(self, text: str) -> _Parsed:
        if text not in self._parsed:
            one = OverridesParser.create().parse_override(text)
            self._parsed[text] = _Parsed(text, one, is_choice(one, self._repository), can_be_set_anew(one))
        return self._parsed[text]

    def _chosen(self, choices: tuple[str, ...]) -> _Chosen:
        if choices not in self._known:
            whole = self._loader.load_sweep_config(self._master, list(choices))
            named = {str(group): choice for group, choice in whole.hydra.runtime.choices.items()}
            self._known[choices] = _Chosen(_without_hydra(whole), named, FolderNames(whole))
        return self._known[choices]

    def _with_values(self, choices: tuple[str, ...], chosen: _Chosen, values: Sequence[_Parsed]) -> SweptConfig:
        keys = tuple(one.override.key_or_group for one in values)
        swept = self._swept.get((choices, keys))
        given = [one.override for one in values]
        if not all(one.can_be_set_anew for one in values) or (swept is None and not lie_apart(keys)):
            own = self._blanks.get(choices, lambda: chosen.blank)
            ConfigLoaderImpl._apply_overrides_to_config(given, own)
            return SweptConfig(own)
        if swept is None:
            swept = self._swept[choices, keys] = SweptConfig(self._blanks.get(choices, lambda: chosen.blank))
        swept.set(given)
        return swept


def _without_hydra(whole: DictConfig) -> DictConfig:
    config = whole.copy()
    with open_dict(config):
        del config["hydra"]
    return config
