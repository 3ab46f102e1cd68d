"""Hydra's loader, which reads and merges files once per combination of choices and sets values on copies of that.

Hydra composes a config to see what is asked for and anew to run it, and a command that composes many of them has most
choices in common between them. Files decide what a combination of choices comes to, values are set on it afterwards.
"""

import os
from collections.abc import Mapping, Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from spinbench.cli.hydra_app.composition_cache import CompositionCache
from spinbench.cli.hydra_app.config_files import ConfigFiles


class ComposedOnce(ConfigLoaderImpl):
    """Keeps what it composed in `kept`, and files in `kept_files`, by their provider: see `ConfigFiles`."""

    def __init__(
        self, config_search_path: ConfigSearchPath, kept: CompositionCache, kept_files: Mapping[str, CompositionCache]
    ) -> None:
        super().__init__(config_search_path)
        self.repository = ConfigFiles(config_search_path, kept_files)
        self._kept = kept

    def load_configuration(
        self,
        config_name: str | None,
        overrides: Sequence[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """A config of the caller's own. Raises HydraException as Hydra does."""
        written = list(overrides)
        if any(text.lstrip("+~").startswith("hydra.searchpath") for text in written):
            return super().load_configuration(config_name, written, run_mode, from_shell, validate_sweep_overrides)
        self.ensure_main_config_source_available()
        parsed = OverridesParser.create().parse_overrides(written)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        choices, values = self._told_apart([one for one in parsed if not one.is_sweep_override()])
        config = self._chosen(config_name, choices, run_mode)
        try:
            self._apply_overrides_to_config(values, config)
            _tell_overrides(config, parsed)
        except (HydraException, OmegaConfBaseException):
            # Hydra's own verdict; it may know more groups, where a primary config adds to the search path
            return super().load_configuration(config_name, written, run_mode, from_shell, validate_sweep_overrides)
        return config

    def _told_apart(self, overrides: Sequence[Override]) -> tuple[list[Override], list[Override]]:
        """Choices of groups, and values."""
        choices: list[Override] = []
        values: list[Override] = []
        for one in overrides:
            (choices if is_choice(one, self.repository) else values).append(one)
        return choices, values

    def _chosen(self, config_name: str | None, choices: Sequence[Override], run_mode: RunMode) -> DictConfig:
        written = [str(one.input_line) for one in choices]
        # all that the files read depend on
        places = [(one.provider, one.path) for one in self.config_search_path.get_path()]
        key = (*places, config_name, JobRuntime.instance().get("name"), run_mode, *written)
        compose = super().load_configuration
        return self._kept.get(key, lambda: compose(config_name, written, run_mode, validate_sweep_overrides=False))


def is_choice(override: Override, repository: IConfigRepository) -> bool:
    """Whether it chooses of a group, as Hydra tells: one of that name exists, and it is not given keys and values."""
    return not isinstance(override.value(), dict) and repository.group_exists(override.key_or_group)


def _tell_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Put into the `hydra` node what Hydra does of all overrides and of where the process is."""
    hydra = config.hydra
    of_hydra = [str(one.input_line) for one in overrides if one.is_hydra_override()]
    of_task = [one for one in overrides if not one.is_hydra_override()]
    with open_dict(hydra):
        hydra.overrides.hydra = of_hydra
        hydra.overrides.task = [str(one.input_line) for one in of_task]
        for name in hydra.job.env_copy:
            hydra.job.env_set[name] = os.environ[name]
        hydra.runtime.cwd = os.getcwd()
        naming = hydra.job.config.override_dirname
        hydra.job.override_dirname = get_overrides_dirname(
            of_task, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
