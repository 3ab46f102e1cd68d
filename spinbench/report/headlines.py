"""The answer in sentences, and how sure it is: time per output token of the best against its rivals."""

from collections.abc import Mapping

import numpy as np

from spinbench.metrics.store import Run
from spinbench.report.compare import THROUGHPUT, best_fixed, headline, selector_sentence
from spinbench.report.comparison.compared_run import ComparedRun, SettingPair
from spinbench.report.comparison.difference import Difference, differences
from spinbench.report.section import Section
from spinbench.report.server_load import Load
from spinbench.report.setting import Setting

METRIC, MEDIAN_TPOT = "mean_tpot_ms", "median_tpot_ms"
BUSY = 0.9
"""Share of the time in which something runs, below which the server is said to wait for requests."""
LEVEL = 0.01
"""Share below the fastest within which a setting counts as level with it."""


def sureness(section: Section, load: Load) -> list[str]:
    """Sentences: the ratio of the fastest to plain decoding and to the best fixed drafter, with an interval.

    From the paired bootstrap over requests, and repeats where there are several. Empty where tables were not kept.
    """
    best = fastest_runnable(section, load)
    if best is None:
        return []
    rivals = {"plain decoding": section.baseline_of(best), "the best fixed drafter": best_fixed(section, load)}
    parts = []
    drawn = ""
    for name, rival in rivals.items():
        if rival is None or rival is best:
            continue
        found = compared(rival, best)
        if found is None or found.ratio is None or found.low is None or found.high is None:
            continue
        drawn = found.drawn
        of_whom = name if rival.is_baseline else f"{name} ({rival.label})"
        parts.append(f"{found.ratio:.2f}x ({found.low:.2f} to {found.high:.2f}) that of {of_whom}")
    if not parts:
        return []
    what = f"How sure: at {load.label} the mean time per output token of {best.label} is {' and '.join(parts)}"
    return [f"{what}; in brackets 95 % intervals, paired bootstrap over {drawn}."]


def level_sentence(section: Section, load: Load) -> str:
    """How many settings of a load are about as fast as the fastest."""
    settings = [setting for setting in section.at(load) if not setting.is_oracle]
    best = max(setting.median(THROUGHPUT) for setting in settings)
    level = sum(setting.median(THROUGHPUT) >= (1 - LEVEL) * best for setting in settings)
    return f"At {load.label} {level} of {len(settings)} settings are within {LEVEL:.0%} of the fastest."


def headlines(section: Section) -> list[str]:
    """The answer first: per load the fastest setting, and what choosing among drafters gave.

    Where the server waits for requests, that comes before the fastest, whose throughput then says little.
    """
    lines = [line for load in section.loads for line in (idle_sentence(section, load), headline(section, load)) if line]
    return lines + [line for load in section.loads if (line := selector_sentence(section, load))]


def busy_share(section: Section, load: Load) -> float | None:
    """Share of the time in which the fastest has something to do, where it waits for requests; None where it does not.

    It does where requests come by themselves and less than `BUSY` of the time is filled: then even the fastest gives
    the tokens that were asked for, and not those that it could.
    """
    best = fastest_runnable(section, load)
    if best is None or not _is_open(best.runs[0]):
        return None
    busy = float(np.mean([sum((run.summary.get("lane_occupancy") or {}).values()) for run in best.runs]))
    return busy if busy < BUSY else None


def idle_sentence(section: Section, load: Load) -> str | None:
    """What throughput hides where the server waits for requests: who needs the least time per token; else None."""
    settings = [one for one in section.at(load) if not one.is_oracle and one.median(MEDIAN_TPOT) > 0]
    best, busy = fastest_runnable(section, load), busy_share(section, load)
    if best is None or busy is None or not settings:
        return None
    least = min(settings, key=lambda setting: setting.median(MEDIAN_TPOT))
    plain = section.baseline_of(least)
    against = (
        f" (plain decoding {plain.median(MEDIAN_TPOT):.1f} ms)" if plain is not None and plain is not least else ""
    )
    return (
        f"At {load.label} the server waits for requests ({best.label} is busy {busy:.0%} of the time), so that "
        f"throughput says little of what it could serve: the least time per output token has **{least.label}**, median "
        f"{least.median(MEDIAN_TPOT):.1f} ms{against}."
    )


def _is_open(run: Run) -> bool:
    """Whether requests come by themselves, and not as others end."""
    arrivals = run.config.get("arrivals")
    return isinstance(arrivals, Mapping) and arrivals.get("kind") in ("trace", "gamma")


def fastest_runnable(section: Section, load: Load) -> Setting | None:
    """The setting of the load with the largest median throughput that somebody could run."""
    settings = [setting for setting in section.at(load) if not setting.is_oracle]
    return max(settings, key=lambda setting: setting.median(THROUGHPUT), default=None)


def compared(before: Setting, after: Setting) -> Difference | None:
    """Mean time per output token of two settings; None where their tables were not kept."""
    if not (before.has_tables and after.has_tables):
        return None
    count = min(len(before.runs), len(after.runs))
    sides = (tuple(map(_side, setting.runs[:count])) for setting in (before, after))
    return differences(SettingPair({}, "", *sides), [METRIC])[0]


def _side(run: Run) -> ComparedRun:
    return ComparedRun(
        run.folder, str(run.meta["method"]), {}, int(run.meta.get("repeat") or 0), run.summary, run.tables
    )
