"""Composes the points of a sweep: Hydra once per combination of choices, values set on copies of what it gave.

Hydra reads and merges every file anew for each point, which takes longer than many a simulation. What it composes
depends on choices of groups alone; values are set on it afterwards, in the order of the command line. So points that
differ only in values share one composition.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from spinbench.cli.compositions import Compositions
from spinbench.cli.config_loader import is_choice

OF_THE_POINT = re.compile(r"\$\{(?!hydra\b)[A-Za-z_][\w.]*\}")
"""A key of the point's own config in the name of a folder."""


@dataclass(frozen=True)
class Composed:
    """One combination, composed."""

    config: DictConfig
    """Without the `hydra` node."""
    folder: Path
    """As `hydra.sweep.dir` and `hydra.sweep.subdir` name it."""
    choices: dict[str, str]
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
        yield [
            composer.compose(number, overrides)
            for number, overrides in enumerate(BasicSweeper.split_arguments(parsed, None)[0])
        ]


class _Composer:
    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader: ConfigLoaderImpl = loader
        self._master = master
        of_hydra: Any = OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False)
        _, self._repository = loader._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, of_hydra)
        self._parsed: dict[str, Override] = {}
        self._wholes: dict[tuple[str, ...], DictConfig] = {}
        """With the `hydra` node, by choices; for names of folders, so its values are those of the point before."""
        self._blanks = Compositions()
        """The same without that node, and without values."""

    def compose(self, number: int, overrides: Sequence[str]) -> Composed:
        parsed = [self._parse(text) for text in overrides]
        choices = tuple(text for text, one in zip(overrides, parsed, strict=True) if is_choice(one, self._repository))
        whole = self._whole(choices)
        config = self._blanks.get(choices, lambda: _without_hydra(whole))
        values = [one for text, one in zip(overrides, parsed, strict=True) if text not in choices]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        folder = self._folder(whole, config, number, overrides, parsed)
        named = {str(group): choice for group, choice in whole.hydra.runtime.choices.items()}
        return Composed(config, folder, named, tuple(overrides))

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = OverridesParser.create().parse_override(text)
        return self._parsed[text]

    def _whole(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._wholes:
            self._wholes[choices] = self._loader.load_sweep_config(self._master, list(choices))
        return self._wholes[choices]

    def _folder(
        self, whole: DictConfig, config: DictConfig, number: int, overrides: Sequence[str], parsed: list[Override]
    ) -> Path:
        OmegaConf.set_readonly(whole.hydra, False)
        job = whole.hydra.job
        names = repr(OmegaConf.to_container(whole.hydra.sweep, resolve=False))
        with open_dict(whole):
            if OF_THE_POINT.search(names):
                for key in config:
                    whole[key] = config[key]
            job.id = job.num = number
            naming = job.config.override_dirname
            job.override_dirname = get_overrides_dirname(
                overrides=parsed, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
            )
            whole.hydra.overrides.task = list(overrides)
        if "${hydra:" in names:
            HydraConfig.instance().set_config(whole)
        return Path(str(whole.hydra.sweep.dir)) / str(whole.hydra.sweep.subdir)


def _without_hydra(whole: DictConfig) -> DictConfig:
    config = whole.copy()
    with open_dict(config):
        del config["hydra"]
    return config
