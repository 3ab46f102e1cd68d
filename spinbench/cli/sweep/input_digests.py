"""Digests of all that a run is made from beside its config: the code, and the files that the config names."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spinbench.cli.config.named_parts import is_part
from spinbench.cli.config.replay import LiveSection, ReplayConfig, SimulationSection
from spinbench.cli.locations import PACKAGE, find_trace
from spinbench.cli.replay.provenance import versions
from spinbench.control.selector.plain import PlainSelector
from spinbench.dotted_name import is_dotted_name, source_of
from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.sweep.point import point_key
from spinbench.workload.acceptance.drafter_name import model_of

SHOWS_ONLY = ("report", "conf", "traces", "__pycache__")
"""Folders of the package that no result follows from: configs and traces come in by themselves."""
OF_REAL_MODELS = ("torch", "transformers", "tokenizers", "safetensors")
"""Libraries that a simulation does without."""


def code_version(is_simulation: bool) -> dict[str, Any]:
    """What runs: the package's version and a digest of its files, and the libraries that compute."""
    found = versions()
    libraries = {name: text for name, text in found.items() if not (is_simulation and name in OF_REAL_MODELS)}
    own = [path for path in PACKAGE.rglob("*") if path.is_file() and _counts(path)]
    return {"files_sha256": _digest(own, PACKAGE), "versions": libraries}


def _counts(path: Path) -> bool:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] not in SHOWS_ONLY and "__pycache__" not in parts


class InputDigests:
    """Digests of files and folders, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, config: ReplayConfig) -> dict[str, Any]:
        """Digests of trace, profile, acceptance, models and a user's own classes, by what they are.

        Raises UserError when a file cannot be read.
        """
        engine = config.engine
        inputs: dict[str, Any] = {"trace": self._of_path(find_trace(config.trace.path))}
        if isinstance(engine, SimulationSection):
            inputs["profile"] = self._of_path(find_trace(engine.profile))
            inputs["acceptance"] = self._of_path(find_trace(engine.source))
            names: Iterable[str] = ()
        else:
            profile = getattr(engine, "profile", None)
            inputs["profile"] = None if profile is None else self._of_path(find_trace(profile))
            names = (config.models.target, *config.models.drafters)
        folders = {name: Path(name).expanduser() for name in names}
        # a name that is no folder is of a hub or of spinbench itself, and says which model it is
        inputs["models"] = {name: self._of_path(path) for name, path in folders.items() if path.is_dir()}
        inputs["classes"] = self._of_classes(config)
        return inputs

    def key(self, config: ReplayConfig, plain: Mapping[str, Any], code: Mapping[str, Any]) -> str:
        """The key of a point of a sweep: of its config, checked and as plain values, its files, and what runs.

        Raises UserError when a file cannot be read, or there is no such device.
        """
        return point_key(_as_it_counts(config, plain), code, self.of(config))

    def _of_classes(self, config: ReplayConfig) -> dict[str, str]:
        parts = (config.selector, config.drafting, config.verification, config.pipeline, config.router)
        names = [str(part.get("_target_", "")) for part in parts]
        names.append(config.trace.format)
        if not isinstance(config.engine, SimulationSection):
            names.extend(model for model in map(model_of, config.models.drafters) if model and is_dotted_name(model))
        sources = {name.rpartition(".")[0]: source_of(name) for name in names}
        return {module: self._of_path(path) for module, path in sources.items() if path is not None}

    def _of_path(self, path: Path) -> str:
        key = path.absolute()
        if key not in self._known:
            files = [one for one in key.rglob("*") if one.is_file()] if key.is_dir() else [key]
            self._known[key] = _digest(files, key if key.is_dir() else key.parent)
        return self._known[key]


def _as_it_counts(config: ReplayConfig, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What of a replay's plain config its result follows from.

    Without the paths whose files `InputDigests` stands for, with the number format that `auto` means here, and where
    plain decoding is simulated without draft lengths, whatever they are.
    """
    kept = dict(plain)
    for section, keys in (("trace", ("path",)), ("engine", ("profile", "source"))):
        kept[section] = {key: value for key, value in plain[section].items() if key not in keys}
    if isinstance(config.engine, SimulationSection) and is_part(config.selector, PlainSelector):
        del kept["drafting"]
    if isinstance(config.engine, LiveSection):
        from spinbench.cli.config.device_choice import known_dtype  # needs torch, which a simulation does without

        kept["engine"]["dtype"] = known_dtype(config.engine)
    return kept


def _digest(files: Iterable[Path], root: Path) -> str:
    """Of the files' contents, and of their names where there are several."""
    digest = hashlib.sha256()
    ordered = sorted(files)
    for path in ordered:
        try:
            content = file_sha256(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        name = path.relative_to(root).as_posix() if len(ordered) > 1 else ""
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
