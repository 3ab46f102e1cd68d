"""Models that commands given in one process load once: no run writes to them, so those of a sweep share them as well."""

from pathlib import Path

import torch

from spinbench.models.load import DrafterModel, TargetModel, load_drafter, load_target

Files = tuple[tuple[str, int, int], ...]
"""Path, time of the last change in ns and size in bytes of each."""


class LoadedOnce:
    """Loads what is in a folder when it is first asked for, and again when a file there has changed."""

    def __init__(self) -> None:
        self._targets: dict[tuple[str, Files, torch.dtype, str], TargetModel] = {}
        self._drafters: dict[tuple[str, Files, int], tuple[DrafterModel, TargetModel]] = {}

    def target(self, spec: str, dtype: torch.dtype, device: torch.device) -> TargetModel:
        """As `load_target`."""
        key = spec, _files(spec), dtype, str(device)
        if not key[1]:
            return load_target(spec, dtype, device)
        if key not in self._targets:
            self._targets[key] = load_target(spec, dtype, device)
        return self._targets[key]

    def drafter(self, spec: str, target: TargetModel) -> DrafterModel:
        """As `load_drafter`."""
        key = spec, _files(spec), id(target)
        if not key[1]:
            return load_drafter(spec, target)
        if key not in self._drafters:
            self._drafters[key] = load_drafter(spec, target), target  # with its target, so that nobody else has its id
        return self._drafters[key][0]


def _files(spec: str) -> Files:
    """Of a folder; none of what is not in one."""
    found = ((str(path.absolute()), path.stat()) for path in sorted(Path(spec).glob("*")))
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)
