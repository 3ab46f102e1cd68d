"""Runs put in order: sections whose runs may be compared, and settings whose runs are repeats of each other."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from spinbench.control.selector.merged import MERGED
from spinbench.errors import UserError
from spinbench.json_file import read_json
from spinbench.metrics.store import Run, find_runs, open_run
from spinbench.report.server_load import Load
from spinbench.report.setting import Setting, settings_of
from spinbench.sweep.folder import MANIFEST_FILE, POINT_FILE, SweepFolder
from spinbench.sweep.status import failure_kinds

REQUIRED_META = (
    "method",
    "baseline",
    "max_num_seqs",
    "engine",
    "dtype",
    "trace.name",
    "trace.sha256",
    "models.target.name",
    "models.target.sha256",
)
HARDWARE_TEXTS = {
    "simulated_from": "simulated from a {}",
    "device": "{}",
    "gpu": "{}",
    "cpu": "{}",
    "cores": "cores: {}",
    "threads": "threads: {}",
    "memory_gb": "{} GB of memory",
    "count": "{} devices",
    "tensor_parallel": "{} processes share the target",
}
"""How the hardware of meta.json is worded; other keys are followed by their values."""
ONE_BY_DEFAULT = ("count", "tensor_parallel")
"""Said only where there are more."""


@dataclass(frozen=True, eq=False)
class Section:
    """Settings that share trace, target, dtype, sampling and hardware, so that their numbers may be compared."""

    trace: str
    target: str
    dtype: str
    hardware: str
    settings: tuple[Setting, ...]
    drafters: tuple[str, ...]
    """Every drafter seen, cheapest first."""

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads, ascending."""
        return tuple(self._by_load)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run of the section."""
        return tuple(run for setting in self.settings for run in setting.runs)

    @property
    def is_simulated(self) -> bool:
        """Whether no run of it had real models."""
        return all(setting.engine == "simulation" for setting in self.settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the settings in their order, each once."""
        return tuple(dict.fromkeys(setting.label for setting in self.settings))

    def at(self, load: Load) -> tuple[Setting, ...]:
        """The settings of one load in their order."""
        return self._by_load.get(load, ())

    @cached_property
    def _by_load(self) -> dict[Load, tuple[Setting, ...]]:
        found: dict[Load, list[Setting]] = {}
        for setting in self.settings:
            found.setdefault(setting.load, []).append(setting)
        return {load: tuple(found[load]) for load in sorted(found, key=lambda load: load.order)}

    def baseline_of(self, setting: Setting) -> Setting | None:
        """What speed-ups divide by: the fastest plain decoding at the same load, on the same engine where there is one.

        One for all settings of a load, whatever their layout, so that no speed-up comes from a slow baseline.
        """
        plain = [other for other in self.at(setting.load) if other.is_baseline]
        return max(
            plain,
            key=lambda other: (other.engine == setting.engine, other.median("output_throughput")),
            default=None,
        )

    def plain_like(self, setting: Setting) -> Setting | None:
        """What texts are held against: plain decoding at the same load, of the same engine and layout if possible."""
        plain = [other for other in self.at(setting.load) if other.is_baseline]
        own = (setting.engine, setting.verification, setting.arrangement)
        return min(
            plain,
            key=lambda other: _distance(own, (other.engine, other.verification, other.arrangement)),
            default=None,
        )

    def only(self, settings: Sequence[Setting]) -> "Section":
        """The same section with some of its settings, in its order."""
        return replace(self, settings=tuple(setting for setting in self.settings if setting in settings))


Loaded = tuple[list[Section], list[Path]]
"""The sections of all runs, and the folders of interrupted ones."""


def load_sections(roots: Sequence[Path]) -> Loaded:
    """The sections of all runs at or below the folders, and the folders of interrupted runs, which take no part.

    Of a sweep only the points count that are done, and that no other version of code or inputs has replaced. Tables are
    read when they are asked for. Raises UserError when there is no run, a run is damaged, meta.json lacks a key, or
    every run was interrupted.
    """
    runs = [_open(folder) for folder in runs_that_count(find_runs(list(roots)))]
    interrupted = [run.folder for run in runs if not run.complete]
    grouped: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        _check_meta(run)
        if run.complete:
            grouped.setdefault(_section_key(run), []).append(run)
    if not grouped:
        raise UserError(f"{interrupted[0]}: interrupted, as are all runs given: nothing to compare, run it to its end")
    return [_section(members) for members in grouped.values()], interrupted


def runs_that_count(folders: Sequence[Path]) -> list[Path]:
    """The folders without what lies in a sweep's folder and is no result of it: cut short, failed or out of date."""
    sweeps = {folder.parent for folder in folders if (folder.parent / MANIFEST_FILE).is_file()}
    done: set[Path] = set()
    for path in sweeps:
        sweep = SweepFolder(path)
        done.update(sweep.folder_of(point) for point in sweep.points().values() if sweep.is_done(point))
    counting = [folder for folder in folders if folder.parent not in sweeps or folder in done]
    if not counting:
        raise UserError(f"{folders[0].parent}: no point of this sweep is done, see spinbench sweep status")
    return counting


def failures(roots: Sequence[Path]) -> list[str]:
    """Why points of sweeps at or below the folders failed, and how many of each sweep for each reason."""
    found = []
    for manifest in sorted({path for root in roots for path in root.rglob(MANIFEST_FILE)}):
        sweep = SweepFolder(manifest.parent)
        points = list(sweep.points().values())
        failed = [point for point in points if sweep.is_failed(point) and not sweep.is_done(point)]
        found += [f"{manifest.parent}: {kind}" for kind in failure_kinds(sweep, points, failed)]
    return found


def hardware_label(meta: dict[str, Any] | Any) -> str:
    """The hardware in one line, from a text or from keys and values."""
    hardware = meta.get("hardware")
    if isinstance(hardware, dict):
        return ", ".join(
            HARDWARE_TEXTS.get(key, f"{key.replace('_', ' ')} {{}}").format(value)
            for key, value in hardware.items()
            if value is not None and not (key in ONE_BY_DEFAULT and value == 1)
        )
    return str(hardware) if hardware else "hardware not recorded"


def _section(runs: list[Run]) -> Section:
    meta = runs[0].meta
    cost_of = {
        drafter["name"]: float(drafter.get("macs_per_token") or 0)
        for run in runs
        for drafter in run.meta["models"].get("drafters", [])
    }
    named = {str(name) for run in runs for name in run.meta["drafters"]} - {MERGED}
    drafters = tuple(sorted(named, key=lambda name: (cost_of.get(name, 0.0), name)))
    settings = settings_of(runs)
    settings.sort(key=lambda setting: (setting.load.order, _method_rank(setting, drafters), setting.label))
    return Section(
        trace=meta["trace"]["name"],
        target=meta["models"]["target"]["name"],
        dtype=str(meta["dtype"]),
        hardware=hardware_label(meta),
        settings=tuple(settings),
        drafters=drafters,
    )


def _open(folder: Path) -> Run:
    """The run; its config from its sweep's point where there is one, as JSON is read much faster than YAML."""
    point = folder / POINT_FILE
    return open_run(folder, read_json(point).get("config") if point.is_file() else None)


def _method_rank(setting: Setting, drafters: tuple[str, ...]) -> tuple[int, int]:
    """The order of rows everywhere: plain, peers, fixed drafters by cost, prompt lookup, selectors, ours, oracle."""
    if setting.is_baseline:
        return 0, 0
    if setting.method.startswith("hf"):
        return 1, 0
    if setting.method.startswith("fixed"):
        name = setting.method.removeprefix("fixed").strip()
        return 2, drafters.index(name) if name in drafters else len(drafters)
    known = ("prompt lookup", "random", "round robin", "epsilon-greedy")
    if setting.method == "spin" or setting.is_oracle:
        return 5, int(setting.is_oracle)
    return (3, known.index(setting.method)) if setting.method in known else (4, 0)


def _distance(wanted: tuple[object, ...], found: tuple[object, ...]) -> list[bool]:
    return [a != b for a, b in zip(wanted, found, strict=True)]


def _section_key(run: Run) -> tuple[str, ...]:
    meta = run.meta
    hardware = meta.get("hardware")
    if isinstance(hardware, dict):  # free memory and the like may differ between runs of one machine
        hardware = [hardware.get(key) for key in ("simulated_from", "device", "gpu", "cpu", "cores")]
    return (
        meta["trace"]["sha256"],
        str(meta["trace"].get("num_requests")),
        meta["models"]["target"]["sha256"],
        str(meta["dtype"]),
        json.dumps(meta.get("sampling"), sort_keys=True),
        json.dumps(hardware),
    )


def _check_meta(run: Run) -> None:
    for dotted in REQUIRED_META:
        value: Any = run.meta
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            raise UserError(f"{run.folder / 'meta.json'}: key {dotted!r} is missing, so the run cannot be compared")
