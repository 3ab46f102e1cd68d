"""Runs put in order: sections whose runs may be compared, and settings whose runs are repeats of each other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spinbench.control.selector.merged import MERGED
from spinbench.errors import UserError
from spinbench.metrics.store import Run, find_runs, read_run
from spinbench.sweep.folder import MANIFEST_FILE, SweepFolder

TREE = "tree"
"""How `drafting` begins in meta.json where drafts branch."""
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


@dataclass(frozen=True, eq=False)
class Setting:
    """One method at one batch size on one engine, with its repeats."""

    label: str
    """The method, with K, layout or engine added where the section has several of them."""
    method: str
    batch: int
    """Most requests served at once (`max_num_seqs`)."""
    engine: str
    verification: str
    pipeline: str
    """Pipeline, placement, whether KV is prepared, replicas; `serial shared` where jobs run one after another."""
    draft_length: str
    """`K=4`, the policy that chooses it, or the tree that is drafted."""
    is_baseline: bool
    runs: tuple[Run, ...]

    def values(self, key: str) -> np.ndarray:
        """The summary's number of each repeat that has one. [repeats]"""
        return np.array([run.summary[key] for run in self.runs if run.summary.get(key) is not None], dtype=float)

    def median(self, key: str) -> float:
        """Median of a summary key over the repeats; NaN when no repeat has it."""
        values = self.values(key)
        return float(np.median(values)) if len(values) else float("nan")

    @property
    def is_oracle(self) -> bool:
        """Whether it knew the texts in advance: a yardstick, which nobody could run."""
        return self.method in ("oracle", "best fixed")

    @property
    def drafters_used(self) -> tuple[str, ...]:
        """The drafters that at least one round was given to alone, in the run's order."""
        used = {name for run in self.runs for name in run.rounds["drafter"].dropna().unique()} - {MERGED}
        return tuple(name for name in self.runs[0].tables.drafters if name in used)

    @property
    def drafts_trees(self) -> bool:
        """Whether its drafts may branch: then more is accepted than a chain of the drafter would have."""
        return self.draft_length.startswith(TREE)


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
    def batches(self) -> tuple[int, ...]:
        """The batch sizes, ascending."""
        return tuple(sorted({setting.batch for setting in self.settings}))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run of the section."""
        return tuple(run for setting in self.settings for run in setting.runs)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the settings in their order, each once."""
        return tuple(dict.fromkeys(setting.label for setting in self.settings))

    def at(self, batch: int) -> tuple[Setting, ...]:
        """The settings of one batch size in their order."""
        return tuple(setting for setting in self.settings if setting.batch == batch)

    def baseline_of(self, setting: Setting) -> Setting | None:
        """Plain decoding at the same batch size, of the same engine and layout where there is one; None without any."""
        plain = [other for other in self.at(setting.batch) if other.is_baseline]
        exact = (setting.engine, setting.verification, setting.pipeline)
        return min(
            plain,
            key=lambda other: _distance(exact, (other.engine, other.verification, other.pipeline)),
            default=None,
        )


def load_sections(roots: Sequence[Path]) -> tuple[list[Section], list[Path]]:
    """The sections of all runs at or below the folders, and the folders of interrupted runs, which take no part.

    Of a sweep only the points count that are done, and that no other version of code or inputs has replaced. Raises
    UserError when there is no run, a run is damaged, meta.json lacks a key, or every run was interrupted.
    """
    runs = [read_run(folder) for folder in runs_that_count(find_runs(list(roots)))]
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


def hardware_label(meta: dict[str, Any] | Any) -> str:
    """The hardware in one line, from a text or from keys and values."""
    hardware = meta.get("hardware")
    if isinstance(hardware, dict):
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in hardware.items() if value is not None)
    return str(hardware) if hardware else "hardware not recorded"


def _section(runs: list[Run]) -> Section:
    meta = runs[0].meta
    cost_of = {
        drafter["name"]: float(drafter.get("macs_per_token") or 0)
        for run in runs
        for drafter in run.meta["models"].get("drafters", [])
    }
    named = {name for run in runs for name in run.tables.drafters} - {MERGED}
    drafters = tuple(sorted(named, key=lambda name: (cost_of.get(name, 0.0), name)))
    grouped: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.meta.get("repeat") or 0, str(run.folder))):
        grouped.setdefault(_setting_key(run), []).append(run)
    settings = _with_distinct_labels([_setting(members) for members in grouped.values()])
    settings.sort(key=lambda setting: (setting.batch, _method_rank(setting, drafters), setting.label))
    return Section(
        trace=meta["trace"]["name"],
        target=meta["models"]["target"]["name"],
        dtype=str(meta["dtype"]),
        hardware=hardware_label(meta),
        settings=tuple(settings),
        drafters=drafters,
    )


def _setting(runs: list[Run]) -> Setting:
    meta = runs[0].meta
    return Setting(
        label=meta["method"],
        method=meta["method"],
        batch=int(meta["max_num_seqs"]),
        engine=str(meta["engine"]),
        verification=str(meta.get("verification") or ""),
        pipeline=_pipeline(meta),
        draft_length=_draft_length(meta),
        is_baseline=bool(meta["baseline"]),
        runs=tuple(runs),
    )


def _with_distinct_labels(settings: list[Setting]) -> list[Setting]:
    """Adds to a method's label what tells its settings apart; a method with one K, layout and engine keeps its name."""

    def label(setting: Setting) -> str:
        same = [other for other in settings if other.method == setting.method]
        parts = [setting.method]
        if len({other.draft_length for other in same}) > 1:
            parts.append(setting.draft_length)
        if len({other.verification for other in same}) > 1:
            parts.append(setting.verification)
        if len({other.pipeline for other in same}) > 1:
            parts.append(setting.pipeline)
        if len({other.engine for other in same}) > 1:
            parts.append(f"[{setting.engine}]")
        return " ".join(parts)

    return [replace(setting, label=label(setting)) for setting in settings]


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


def _distance(wanted: tuple[str, ...], found: tuple[str, ...]) -> list[bool]:
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


def _setting_key(run: Run) -> tuple[str, ...]:
    keys = ("method", "max_num_seqs", "engine", "verification")
    named = (json.dumps(run.meta.get(key) or None, sort_keys=True) for key in keys)
    return *named, _draft_length(run.meta), _pipeline(run.meta)


def _draft_length(meta: Mapping[str, Any]) -> str:
    policy = meta.get("drafting") or "fixed"
    if policy == "fixed":
        return f"K={meta.get('num_speculative_tokens') or 0}"
    return policy if policy.startswith(TREE) else f"K {policy}".replace("_", " ")


def _pipeline(meta: Mapping[str, Any]) -> str:
    ahead = ", KV ahead" if meta.get("switching") == "ahead" else ""
    replicas = f", {meta['replicas']} replicas {meta.get('router')}" if meta.get("replicas", 1) > 1 else ""
    return f"{meta.get('pipeline') or 'serial'} {meta.get('placement') or 'shared'}{ahead}{replicas}".replace("_", " ")


def _check_meta(run: Run) -> None:
    for dotted in REQUIRED_META:
        value: Any = run.meta
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            raise UserError(f"{run.folder / 'meta.json'}: key {dotted!r} is missing, so the run cannot be compared")
