"""The files that Hydra composes configs of, each read once."""

import copy
from collections.abc import Mapping

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from spinbench.cli.hydra_app.composition_cache import CompositionCache


class ConfigFiles(ConfigRepository):
    """Hydra's own, which would read the same files anew for every combination of choices."""

    def __init__(self, config_search_path: ConfigSearchPath, kept: Mapping[str, CompositionCache]) -> None:
        self._kept = kept
        """By the provider of a folder, as Hydra calls whoever named it; files of others are read whenever asked for."""
        super().__init__(config_search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """As Hydra's, which looks for every file anew in all folders whenever it asks for it."""
        super().initialize_sources(config_search_path)
        self._found: dict[tuple[str, ObjectType | None], ConfigSource | None] = {}

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        key = config_path, object_type
        if key not in self._found:
            self._found[key] = super()._find_object_source(config_path, object_type)
        return self._found[key]

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A file's content, of the caller's own; None where there is no such file."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        read = super().load_config
        if source is None or source.provider not in self._kept:
            return read(config_path)
        key = source.scheme(), source.path, config_path
        return self._kept[source.provider].get(key, lambda: read(config_path))

    def __deepcopy__(self, memo: Mapping[int, object]) -> "ConfigFiles":
        """What Hydra takes for each config, to change its list of sources: the list is replaced then, no source is."""
        return copy.copy(self)
