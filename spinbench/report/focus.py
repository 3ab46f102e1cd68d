"""The few settings of a section that a page shows: baselines, the best of each kind, the fastest of the rest."""

from spinbench.report.compare import THROUGHPUT, best_fixed, best_selector
from spinbench.report.section import Section
from spinbench.report.server_load import Load
from spinbench.report.setting import Setting

SHOWN_METHODS = 16
"""Rows of a figure or table that a reader can take in."""
SHOWN_LOADS = 3


def focus(section: Section) -> Section:
    """The section with at most `SHOWN_METHODS` labels, the same at every load; itself where it has no more.

    First come, at each load, the fastest plain decoding, the fastest fixed drafter, the fastest selector and the
    oracle; then those that come closest to the fastest, on average over the loads.
    """
    if len(section.labels) <= SHOWN_METHODS:
        return section
    chosen = dict.fromkeys(setting.label for load in section.loads for setting in _best_of_kinds(section, load))
    shares: dict[str, list[float]] = {}
    for load in section.loads:
        settings = section.at(load)
        best = max(setting.median(THROUGHPUT) for setting in settings)
        for setting in settings:
            shares.setdefault(setting.label, []).append(setting.median(THROUGHPUT) / best)
    # what was not run at a load counts there as nothing
    ranked = sorted(shares, key=lambda label: sum(shares[label]), reverse=True)
    labels = list(dict.fromkeys((*list(chosen)[:SHOWN_METHODS], *ranked)))[:SHOWN_METHODS]
    return section.only([setting for setting in section.settings if setting.label in labels])


def at_few_loads(section: Section) -> Section:
    """The section at its lowest, middle and highest load; the section itself where it has no more than three."""
    loads = section.loads
    if len(loads) <= SHOWN_LOADS:
        return section
    last = len(loads) - 1
    chosen = [loads[round(place * last / (SHOWN_LOADS - 1))] for place in range(SHOWN_LOADS)]
    return section.only([setting for setting in section.settings if setting.load in chosen])


def with_tables(section: Section) -> Section | None:
    """The section's settings of which more than the summary was kept; None when there are none."""
    settings = [setting for setting in section.settings if setting.has_tables]
    return section.only(settings) if settings else None


def _best_of_kinds(section: Section, load: Load) -> list[Setting]:
    settings = section.at(load)
    oracle = next((setting for setting in settings if setting.is_oracle), None)
    kinds = (section.baseline_of(settings[0]), best_fixed(section, load), best_selector(section, load), oracle)
    return [setting for setting in kinds if setting is not None]
