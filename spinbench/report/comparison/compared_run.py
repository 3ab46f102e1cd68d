"""The two sides of a comparison: their runs, in pairs of the same setting."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinbench.errors import UserError
from spinbench.metrics.store import find_runs, open_run
from spinbench.metrics.tables import RunTables
from spinbench.report.section import runs_that_count
from spinbench.sweep.table import flat

REPEAT = "repeat"
"""The config key that tells repeats apart."""
DRAFTING = "drafting."
METHOD_GROUPS = ("selector.", DRAFTING, "method")
"""Keys that make a method, whose name says most of them."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run of a side."""

    folder: Path
    method: str
    """What reports call it."""
    settings: Mapping[str, Any]
    """Config keys with dots, and what of meta.json decides a result."""
    repeat: int
    summary: Mapping[str, Any]
    tables: RunTables | None
    """None where only the summary was kept."""
    is_simulated_plain: bool = False
    """Plain decoding in simulated time, which comes out the same whatever its draft length."""

    def value(self, name: str) -> Any:
        """What tells its setting from others under a key."""
        return None if self.is_simulated_plain and name.startswith(DRAFTING) else self.settings.get(name)


@dataclass(frozen=True, eq=False)
class SettingPair:
    """The runs of one setting on both sides, repeat by repeat."""

    setting: Mapping[str, Any]
    """What tells this setting from the others of its side."""
    label: str
    """The same in one line, for people; empty where there is one setting only."""
    before: tuple[ComparedRun, ...]
    after: tuple[ComparedRun, ...]


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
    settings = [dict(zip(names, json.loads(key), strict=True)) for key in common]
    labels = _labels([sides[0][key][0].method for key in common], settings)
    pairs = []
    for key, setting, label in zip(common, settings, labels, strict=True):
        count = min(len(sides[0][key]), len(sides[1][key]))
        pairs.append(SettingPair(setting, label, *(tuple(side[key][:count]) for side in sides)))
    differing = _differing(before[0].settings, after[0].settings, names)
    return Comparison(tuple(pairs), differing, len(sides[0]) - len(common), len(sides[1]) - len(common))


def _load(folder: Path) -> ComparedRun:
    run = open_run(folder)
    settings = flat(run.config)
    repeat = settings.pop(REPEAT, 0)
    trace = run.meta.get("trace")
    settings["(code)"] = run.meta.get("git_commit")
    settings["(trace content)"] = trace.get("sha256") if isinstance(trace, Mapping) else None
    tables = run.tables if run.has_tables else None
    plain = bool(run.meta.get("baseline")) and run.meta.get("engine") == "simulation"
    return ComparedRun(folder, str(run.meta.get("method", "")), settings, int(repeat), run.summary, tables, plain)


def _varying(runs: Sequence[ComparedRun]) -> set[str]:
    names = {name for run in runs for name in run.settings}
    return {name for name in names if len({_text(run.settings.get(name)) for run in runs}) > 1}


def _labels(methods: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method, and the keys in which settings differ; of those that make the method, where it has several."""

    def vary(name: str, places: Sequence[int]) -> bool:
        return len({_text(settings[place].get(name)) for place in places}) > 1

    everywhere = range(len(settings))
    labels = []
    for method, setting in zip(methods, settings, strict=True):
        alike = [place for place in everywhere if methods[place] == method]
        shown = [name for name in setting if vary(name, alike if name.startswith(METHOD_GROUPS) else everywhere)]
        several = [method] if len(set(methods)) > 1 else []
        labels.append(" ".join([*several, *(f"{name}={_text(setting[name])}" for name in shown)]))
    return labels


def _by_setting(runs: Sequence[ComparedRun], names: Sequence[str]) -> dict[str, list[ComparedRun]]:
    found: dict[str, list[ComparedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.repeat, str(run.folder))):
        members = found.setdefault(json.dumps([run.value(name) for name in names], sort_keys=True), [])
        # older versions simulated it for every K that was swept
        if not (run.is_simulated_plain and any(one.repeat == run.repeat for one in members)):
            members.append(run)
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
