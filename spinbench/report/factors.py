"""A section as a table of factors and figures: what was varied, what each choice is worth, and the way to the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from spinbench.report.arrangement import varying_parts
from spinbench.report.compare import comparison_table
from spinbench.report.section import Section

METHOD, DRAFT_LENGTH, LAYOUT, PIPELINE = "method", "K", "verification", "pipeline"
LAYOUT_ORDER = ("padded", "grouped", "decomposed", "packed")
"""From the least to the most effort to avoid padding: where a staircase begins and ends."""


@dataclass(frozen=True)
class Factors:
    """One row per setting, and the names of what differs between rows."""

    table: pd.DataFrame
    """`label`, `load`, the factors, and the columns of `comparison_table`."""
    names: tuple[str, ...]
    """Columns in which settings of one load differ, the method first."""
    loads: tuple[str, ...]
    """Labels in ascending order."""

    @property
    def runnable(self) -> pd.DataFrame:
        """The rows without the oracles."""
        return self.table[~self.table["is_oracle"]]

    def values(self, name: str, rows: pd.DataFrame | None = None) -> list[str]:
        """The values of a factor in the section's order, K ascending."""
        found = list(dict.fromkeys((self.table if rows is None else rows)[name]))
        return sorted(found, key=_natural) if name == DRAFT_LENGTH else found


def factors_of(section: Section) -> Factors:
    """The factors of a section's settings, with every number of the comparison tables. [settings]"""
    tables = []
    arranged = varying_parts(setting.arrangement for setting in section.settings)
    for load in section.loads:
        settings = section.at(load)
        own = pd.DataFrame(
            [
                {
                    "label": setting.label,
                    "load": load.label,
                    "batch": load.batch,
                    **dict(load.arrivals),
                    METHOD: setting.method,
                    DRAFT_LENGTH: setting.draft_length,
                    LAYOUT: setting.verification,
                    PIPELINE: setting.arrangement.told(arranged),
                    "engine": setting.engine,
                    **{key: str(value) for key, value in setting.others},
                    "is_oracle": setting.is_oracle,
                }
                for setting in settings
            ]
        )
        figures = comparison_table(section, load).drop(columns=["method", "engine"])
        tables.append(pd.concat([own, figures], axis=1))
    table = pd.concat(tables, ignore_index=True)
    others = list(dict.fromkeys(key for setting in section.settings for key, _ in setting.others))
    table[others] = table[others].fillna("-") if others else table[others]
    candidates = [METHOD, DRAFT_LENGTH, LAYOUT, PIPELINE, *others]
    names = tuple(name for name in candidates if _differs(table, name))
    return Factors(table, names, tuple(load.label for load in section.loads))


def _differs(table: pd.DataFrame, name: str) -> bool:
    """Whether more than plain decoding, which has no K, is set apart by it."""
    rows = table[~table["is_baseline"]] if name == DRAFT_LENGTH else table
    return rows[name].nunique() > 1


def worth(factors: Factors) -> pd.DataFrame:
    """What each value of each factor is worth, all else equal; empty where nothing was varied beside the method.

    Settings alike in load and in all other factors are a context. In each the throughput is divided by the geometric
    mean over the factor's values there, so that values are compared only where everything else is the same. Columns:
    factor, value, ratio (geometric mean over contexts), low and high (10th and 90th percentile), contexts, best (the
    number of contexts in which it is the fastest). Plain decoding and oracles take no part.
    """
    rows = factors.runnable
    rows = rows[~rows["is_baseline"] & (rows["tokens_per_s"] > 0)]
    found = []
    for name in factors.names:
        context = ["load", "engine", *(other for other in factors.names if other != name)]
        logs = pd.Series(np.log(rows["tokens_per_s"].to_numpy()), index=rows.index)
        groups = rows.groupby(context)["tokens_per_s"]
        several = rows.groupby(context)[name].transform("nunique") > 1
        ratio = np.exp(logs - logs.groupby([rows[key] for key in context]).transform("mean"))
        shown = rows.assign(ratio=ratio, is_best=rows["tokens_per_s"] >= groups.transform("max"))[several]
        for value in factors.values(name, shown):
            own = shown[shown[name] == value]
            found.append(
                {
                    "factor": name,
                    "value": value,
                    "ratio": float(np.exp(np.log(own["ratio"]).mean())),
                    "low": float(own["ratio"].quantile(0.1)),
                    "high": float(own["ratio"].quantile(0.9)),
                    "contexts": len(own),
                    "best": int(own["is_best"].sum()),
                }
            )
    return pd.DataFrame(found)


def staircase(factors: Factors) -> pd.DataFrame:
    """From the simplest setting to the best of the highest load, one factor at a time; empty where no such way is.

    The simplest is plain decoding, or a single drafter where no way leads from it, with the layout that pads most and
    jobs one after another. A row per step: `step`, `changed`, and the columns of the factors' table. Where plain
    decoding is left its K is too, as it has none.
    """
    rows = factors.runnable
    rows = rows[rows["load"] == factors.loads[-1]]
    rows = rows[rows["tokens_per_s"].notna()]
    if rows.empty:
        return pd.DataFrame()
    end = rows.iloc[int(rows["tokens_per_s"].to_numpy().argmax())]
    rows = rows[rows["engine"] == end["engine"]]
    by_values = {tuple(row[list(factors.names)]): place for place, row in rows.iterrows()}
    for place in _starts(rows):
        path = _path(factors, rows.loc[place], end, by_values)
        if path:
            steps = rows.loc[[by_values[values] for _, values in path]]
            return steps.assign(step=range(len(path)), changed=[name for name, _ in path]).reset_index(drop=True)
    return pd.DataFrame()


def _starts(rows: pd.DataFrame) -> list[object]:
    """Candidates for the first step, the simplest first."""
    simple = rows[rows["is_baseline"] | rows[METHOD].str.startswith("fixed")]
    order = simple.assign(
        _kind=~simple["is_baseline"],
        _layout=[LAYOUT_ORDER.index(one) if one in LAYOUT_ORDER else 99 for one in simple[LAYOUT]],
        _pipeline=~simple[PIPELINE].str.startswith("serial"),
    ).sort_values(["_kind", "_layout", "_pipeline"], kind="stable")
    return list(order.index)


def _path(
    factors: Factors, start: pd.Series, end: pd.Series, by_values: dict[tuple[object, ...], object]
) -> list[tuple[str, tuple[object, ...]]]:
    """Names of what changes, and the values after it, from start to end; empty without at least two changes."""
    changing = [name for name in factors.names if start[name] != end[name]]
    joined: list[Sequence[str]] = [(name,) for name in changing]
    if start["is_baseline"] and {METHOD, DRAFT_LENGTH} <= set(changing):
        rest = [(name,) for name in changing if name not in (METHOD, DRAFT_LENGTH)]
        joined = [(METHOD, DRAFT_LENGTH), *rest]
    if len(joined) < 2 or len(joined) > 6:  # 6! orders are looked at in no time
        return []
    for order in permutations(joined):
        values = {name: start[name] for name in factors.names}
        path = [("", tuple(values.values()))]
        for names in order:
            values |= {name: end[name] for name in names}
            path.append((" and ".join(names), tuple(values.values())))
        if all(step in by_values for _, step in path):
            return path
    return []


def _natural(text: str) -> tuple[int, float, str]:
    """`K=4` before `K=16`, and both before policies."""
    number = text.removeprefix("K=")
    return (0, float(number), "") if number.isdigit() else (1, 0.0, text)
