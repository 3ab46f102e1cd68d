"""The two sides of a comparison: their runs, in pairs of the same setting."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from spinbench.errors import UserError
from spinbench.metrics.store import SUMMARY_FILE, find_runs, read_run
from spinbench.metrics.tables import RunTables
from spinbench.report.section import runs_that_count
from spinbench.sweep.json_file import read_json
from spinbench.sweep.table import flat

REPEAT = "repeat"
"""The config key that tells repeats apart."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run of a side."""

    folder: Path
    settings: Mapping[str, Any]
    """Config keys with dots, and what of meta.json decides a result."""
    repeat: int
    summary: Mapping[str, Any]
    tables: RunTables | None
    """None where only the summary was kept."""


@dataclass(frozen=True, eq=False)
class SettingPair:
    """The runs of one setting on both sides, repeat by repeat."""

    setting: Mapping[str, Any]
    """What tells this setting from the others of its side."""
    before: tuple[ComparedRun, ...]
    after: tuple[ComparedRun, ...]

    @property
    def label(self) -> str:
        """In one line; empty where there is one setting only."""
        return " ".join(f"{key}={_text(value)}" for key, value in self.setting.items())


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sides in pairs, and what differs in their configs whatever the setting."""

    pairs: tuple[SettingPair, ...]
    differing: Mapping[str, tuple[str, str]]
    """By key: what A has and what B has."""
    only_before: int
    """Settings that B lacks."""
    only_after: int


def load_side(path: Path) -> list[ComparedRun]:
    """The complete runs at or below a folder. Raises UserError when there are none, or one is damaged."""
    runs = [_load(folder) for folder in runs_that_count(find_runs([path]))]
    complete = [run for run in runs if run.summary.get("complete")]
    if not complete:
        raise UserError(f"{path}: every run here was interrupted; there is nothing to compare")
    return complete


def pair_sides(before: Sequence[ComparedRun], after: Sequence[ComparedRun]) -> Comparison:
    """The settings that both sides have, each with as many repeats as both have.

    A side's settings are told apart by the keys in which its runs differ; the other side need only have the same values
    of those. Raises UserError when the sides have no setting in common, or runs that nothing tells apart.
    """
    names = sorted(_varying(before) | _varying(after))
    sides = [_by_setting(side, names) for side in (before, after)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise UserError(
            f"{before[0].folder.parent} and {after[0].folder.parent} have no setting in common; they differ within "
            f"themselves in {', '.join(names)}"
        )
    pairs = []
    for key in common:
        count = min(len(sides[0][key]), len(sides[1][key]))
        setting = dict(zip(names, json.loads(key), strict=True))
        pairs.append(SettingPair(setting, *(tuple(side[key][:count]) for side in sides)))
    differing = _differing(before[0].settings, after[0].settings, names)
    return Comparison(tuple(pairs), differing, len(sides[0]) - len(common), len(sides[1]) - len(common))


def _load(folder: Path) -> ComparedRun:
    meta = read_json(folder / "meta.json")
    if meta.get("kept") == "summary":
        summary, tables = read_json(folder / SUMMARY_FILE), None
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    else:
        run = read_run(folder)
        summary, tables, config = run.summary, run.tables, run.config
    if not isinstance(config, Mapping):
        raise UserError(f"{folder / 'config.yaml'}: expected keys and values")
    settings = flat({str(key): value for key, value in config.items()})
    repeat = settings.pop(REPEAT, 0)
    trace = meta.get("trace")
    settings["(code)"] = meta.get("git_commit")
    settings["(trace content)"] = trace.get("sha256") if isinstance(trace, Mapping) else None
    return ComparedRun(folder, settings, int(repeat), summary, tables)


def _varying(runs: Sequence[ComparedRun]) -> set[str]:
    names = {name for run in runs for name in run.settings}
    return {name for name in names if len({_text(run.settings.get(name)) for run in runs}) > 1}


def _by_setting(runs: Sequence[ComparedRun], names: Sequence[str]) -> dict[str, list[ComparedRun]]:
    found: dict[str, list[ComparedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.repeat, str(run.folder))):
        key = json.dumps([run.settings.get(name) for name in names], sort_keys=True)
        found.setdefault(key, []).append(run)
    for members in found.values():
        repeats = [run.repeat for run in members]
        if len(set(repeats)) < len(repeats):
            raise UserError(
                f"{members[0].folder} and {members[1].folder}: the same setting and repeat twice on one side"
            )
    return dict(sorted(found.items()))


def _differing(
    before: Mapping[str, Any], after: Mapping[str, Any], varying: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Only of what is one value on each side; keys that one side lacks are `-`."""
    names = sorted((before.keys() | after.keys()) - set(varying))
    pairs = {name: tuple(_text(side[name]) if name in side else "-" for side in (before, after)) for name in names}
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
