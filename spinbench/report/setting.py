"""One way of serving at one load, with its repeats: what a row of a report is about."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinbench.control.placement import Placement
from spinbench.control.selector.merged import MERGED
from spinbench.metrics.store import Run
from spinbench.report.arrangement import Arrangement, varying_parts
from spinbench.report.server_load import Load, key_name, value_text
from spinbench.sweep.table import flat

TREE = "tree"
"""How `drafting` begins in meta.json where drafts branch."""
OF_A_LOAD = ("arrivals.", "trace.")
"""Config keys that say what is asked of the server, and not how it serves."""
REPEATED = ("repeat", "seed")
"""Config keys, or their last parts, in which repeats of one setting differ."""
NOT_OF_PLAIN = ("selector.", "drafting.", "models.drafters", "switching")
"""Config keys without a meaning where nothing is drafted."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One method at one load on one engine, with its repeats."""

    label: str
    """The method, with K, layout, engine or other keys added where the section has several of them."""
    method: str
    load: Load
    engine: str
    verification: str
    arrangement: Arrangement
    draft_length: str
    """`K=4`, the policy that chooses it, or the tree that is drafted."""
    others: tuple[tuple[str, Any], ...]
    """Further config keys in which settings alike in all of the above differ."""
    is_baseline: bool
    runs: tuple[Run, ...]

    @property
    def batch(self) -> int:
        """Most requests served at once."""
        return self.load.batch

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
        used = {name for run in self.runs for name in run.summary.get("acceptance_length_per_drafter") or ()} - {MERGED}
        return tuple(name for name in self.runs[0].meta["drafters"] if name in used)

    @property
    def drafts_trees(self) -> bool:
        """Whether its drafts may branch: then more is accepted than a chain of the drafter would have."""
        return self.draft_length.startswith(TREE)

    @property
    def has_tables(self) -> bool:
        """Whether what happened in it was kept, and not only its metrics."""
        return all(run.has_tables for run in self.runs)

    @property
    def devices(self) -> int:
        """Devices that it takes: those of the target, and in a simulation those that drafters with a network have.

        On the runtime lanes are threads or streams of the same device.
        """
        meta = self.runs[0].meta
        hardware = meta.get("hardware")
        of_target = int(hardware.get("count") or 1) if isinstance(hardware, Mapping) else 1
        if self.engine != "simulation":
            return of_target
        models = {one["name"] for one in meta["models"].get("drafters", []) if one.get("macs_per_token")}
        placement = Placement(meta.get("placement") or "shared")
        of_replica = of_target + placement.num_devices(len(models.intersection(self.drafters_used))) - 1
        return of_replica * int(meta.get("replicas", 1))


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """The runs as settings with distinct labels, in no particular order."""
    configs = {run: flat(run.config) for run in runs}
    of_loads = sorted(
        key
        for key in {name for config in configs.values() for name in config}
        if key.startswith(OF_A_LOAD) and not _is_repeated(key) and _varies(key, configs.values())
    )
    grouped: dict[tuple[Any, ...], list[Run]] = {}
    loads: dict[Run, Load] = {}
    for run in sorted(runs, key=lambda run: (run.meta.get("repeat") or 0, str(run.folder))):
        arrivals = tuple((key, _scalar(configs[run].get(key))) for key in of_loads)
        loads[run] = Load(int(run.meta["max_num_seqs"]), arrivals)
        grouped.setdefault((*_key(run), loads[run].slug), []).append(run)
    settings = []
    for members in grouped.values():
        for others, repeats in _told_apart(members, configs):
            settings.append(_setting(repeats, loads[repeats[0]], others))
    return _with_distinct_labels(settings)


def _told_apart(
    members: Sequence[Run], configs: Mapping[Run, Mapping[str, Any]]
) -> list[tuple[tuple[tuple[str, Any], ...], list[Run]]]:
    """Runs that meta.json makes look alike, by the further config keys in which they differ."""
    of_members = [configs[run] for run in members]
    left_out = (*OF_A_LOAD, *NOT_OF_PLAIN) if members[0].meta["baseline"] else OF_A_LOAD
    names = sorted(
        key
        for key in {name for config in of_members for name in config}
        if not key.startswith(left_out) and not _is_repeated(key) and _varies(key, of_members)
    )
    found: dict[str, tuple[tuple[tuple[str, Any], ...], list[Run]]] = {}
    for run in members:
        others = tuple((name, configs[run].get(name)) for name in names)
        found.setdefault(json.dumps(others, default=str), (others, []))[1].append(run)
    return [(others, _each_once(repeats, configs)) for others, repeats in found.values()]


def _each_once(repeats: Sequence[Run], configs: Mapping[Run, Mapping[str, Any]]) -> list[Run]:
    """Simulated plain decoding comes out the same for every K that is swept: that is one run, no repeats."""
    first = repeats[0].meta
    if first["engine"] != "simulation" or not first["baseline"]:
        return list(repeats)
    own = {
        json.dumps({key: value for key, value in configs[run].items() if _is_repeated(key)}, default=str): run
        for run in reversed(repeats)
    }
    return [run for run in repeats if run in own.values()]


def _setting(runs: list[Run], load: Load, others: tuple[tuple[str, Any], ...]) -> Setting:
    meta = runs[0].meta
    return Setting(
        label=meta["method"],
        method=meta["method"],
        load=load,
        engine=str(meta["engine"]),
        verification=str(meta.get("verification") or ""),
        arrangement=Arrangement.of(meta),
        draft_length=_draft_length(meta),
        others=others,
        is_baseline=bool(meta["baseline"]),
        runs=tuple(runs),
    )


def _with_distinct_labels(settings: list[Setting]) -> list[Setting]:
    """Adds to a method's label what tells its settings apart; a method with one K, layout and engine keeps its name."""
    of_method: dict[str, list[Setting]] = {}
    for setting in settings:
        of_method.setdefault(setting.method, []).append(setting)
    parts_of = {
        method: [
            attribute
            for attribute in ("draft_length", "verification")
            if len({getattr(other, attribute) for other in same}) > 1
        ]
        for method, same in of_method.items()
    }
    arranged = {method: varying_parts(other.arrangement for other in same) for method, same in of_method.items()}
    engines = {method: len({other.engine for other in same}) > 1 for method, same in of_method.items()}

    def label(setting: Setting) -> str:
        parts = [setting.method, *(getattr(setting, attribute) for attribute in parts_of[setting.method])]
        parts += filter(None, [setting.arrangement.told(arranged[setting.method])])
        parts += [f"{key_name(key)}={value_text(value)}" for key, value in setting.others if value is not None]
        return " ".join([*parts, f"[{setting.engine}]"] if engines[setting.method] else parts)

    return [replace(setting, label=label(setting)) for setting in settings]


def _key(run: Run) -> tuple[str, ...]:
    keys = ("method", "max_num_seqs", "engine", "verification")
    named = (json.dumps(run.meta.get(key) or None, sort_keys=True) for key in keys)
    return *named, _draft_length(run.meta), str(Arrangement.of(run.meta))


def _draft_length(meta: Mapping[str, Any]) -> str:
    policy = meta.get("drafting") or "fixed"
    if policy == "fixed":
        return f"K={meta.get('num_speculative_tokens') or 0}"
    return policy if policy.startswith(TREE) else f"K {policy}".replace("_", " ")


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _varies(key: str, configs: Any) -> bool:
    return len({json.dumps(config.get(key), sort_keys=True, default=str) for config in configs}) > 1


def _is_repeated(key: str) -> bool:
    return key_name(key) in REPEATED or key_name(key).endswith("_seed")
