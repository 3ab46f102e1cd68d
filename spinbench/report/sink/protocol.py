"""What a sink is, and what it is sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from spinbench.errors import UserError
from spinbench.metrics.store import SUMMARY_FILE


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, as a tracker wants it."""

    folder: Path
    name: str
    method: str
    config: dict[str, Any]
    metrics: dict[str, float]
    """By key; of a mapping one for each entry, `METRIC.ENTRY`, of a list `METRIC.1` and so on."""

    @property
    def files(self) -> list[Path]:
        """What is in the folder; a sweep's own notes (.lock and the like) are left out."""
        return sorted(path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))


class Sink(Protocol):
    """Takes runs."""

    def send(self, run: FinishedRun) -> None:
        """Pass the run on. Raises UserError where the other side does not take it."""
        ...


def read_finished(folder: Path) -> FinishedRun:
    """The run in `folder`, whichever files were kept of it."""
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)
    return FinishedRun(folder, folder.name, str(meta["method"]), config, flat_metrics(summary))


def flat_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary, each under a key of its own; what a run has none of is left out."""
    found: dict[str, float] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            entries = {f"{key}.{name}": entry for name, entry in value.items()}
        elif isinstance(value, list):
            entries = {f"{key}.{place}": entry for place, entry in enumerate(value, start=1)}
        else:
            entries = {key: value}
        found |= {name: float(entry) for name, entry in entries.items() if isinstance(entry, int | float)}
    return found


def require_package(kind: str) -> None:
    """Raise UserError where the tracker's own package is not installed."""
    spec = find_spec(kind)
    if spec is None or spec.origin is None:  # without an origin it is a mere folder, such as ./wandb of offline runs
        raise UserError(f"sink={kind} needs a package that is not installed: pip install 'spinbench[{kind}]'")
