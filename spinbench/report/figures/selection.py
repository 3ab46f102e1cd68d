"""Which drafter each selector chose as the run went on."""

import numpy as np
import pandas as pd

from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title
from spinbench.report.section import Section
from spinbench.report.setting import Setting

NUM_BINS = 30
MAX_SELECTORS = 6
"""Rows of panels; of more selectors those with the largest throughput are drawn."""
NO_DRAFTER = "no draft"
NO_DRAFTER_COLOUR = "#dddddd"


def selection_plot(section: Section, colours: dict[str, str]) -> Plot | None:
    """Stacked shares of the drafters over the rounds, a panel per selector and load; None without a selector."""
    selecting = [setting for setting in section.settings if len(setting.drafters_used) > 1]
    if not selecting:
        return None
    labels = list(dict.fromkeys(setting.label for setting in selecting))
    are_all = len(labels) <= MAX_SELECTORS
    if not are_all:
        best = {label: max(s.median("output_throughput") for s in selecting if s.label == label) for label in labels}
        labels = sorted(labels, key=lambda label: best[label], reverse=True)[:MAX_SELECTORS]
        selecting = [setting for setting in selecting if setting.label in labels]
    loads = sorted({setting.load for setting in selecting}, key=lambda load: load.order)
    shares = {(s.label, s.load): drafter_shares(s, section.drafters) for s in selecting}
    names = [name for name in [*section.drafters, NO_DRAFTER] if any(share[name].any() for share in shares.values())]
    colour_of = {**colours, NO_DRAFTER: NO_DRAFTER_COLOUR}
    with plot_style():
        figure = new_figure(1.9 + 2.1 * len(labels))
        panels = figure.subplots(len(labels), len(loads), sharey=True, sharex="col", squeeze=False)
        for column, load in enumerate(loads):
            last = 0.0  # one axis for the whole column, as long as the longest run
            for line, label in enumerate(labels):
                axes = panels[line, column]
                axes.set(ylim=(0, 1))
                axes.set_title(f"{label}, {load.label}")
                share = shares.get((label, load))
                if share is not None:
                    axes.stackplot(
                        share["round_index"],
                        *(share[name] for name in names),
                        colors=[colour_of[name] for name in names],
                        linewidth=0,
                    )
                    last = max(last, float(share["round_index"].max()))
                if column == 0:
                    axes.set_ylabel("share of requests")
                if line == len(labels) - 1:
                    axes.set_xlabel("round")
                    axes.set_xlim(0, last or 1)
        handles = [panels[0, 0].bar([0], [0], color=colour_of[name])[0] for name in names]
        legend_below(figure, handles, names)
        title = _finding(selecting)
        set_title(figure, title)
    data = pd.concat(
        [share.assign(method=label, load=load.label) for (label, load), share in shares.items()], ignore_index=True
    )
    return Plot(
        name="selection",
        figure=figure,
        data=data,
        title=title,
        alt=f"Stacked shares of drafters over rounds for {', '.join(labels)}.",
        caption=f"Share of (round, request) pairs given to each drafter, all repeats together, in {NUM_BINS} bins."
        + ("" if are_all else f" The {MAX_SELECTORS} fastest selectors."),
    )


def drafter_shares(setting: Setting, drafters: tuple[str, ...]) -> pd.DataFrame:
    """Shares over time: a row per bin of rounds (`round_index`: its middle), a column per drafter and `no draft`."""
    rounds = pd.concat([run.rounds[["round_index", "drafter"]] for run in setting.runs], ignore_index=True)
    names = rounds["drafter"].astype(object).where(rounds["drafter"].notna(), NO_DRAFTER)
    last = int(rounds["round_index"].max())
    edges = np.linspace(0, last + 1, min(NUM_BINS, last + 1) + 1)
    bins = np.searchsorted(edges, rounds["round_index"].to_numpy(), side="right") - 1
    counts = pd.crosstab(pd.Series(bins, name="bin"), names).reindex(columns=[*drafters, NO_DRAFTER], fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0)
    middles = (edges[shares.index] + edges[shares.index + 1] - 1) / 2
    return shares.reset_index(drop=True).assign(round_index=middles)


def _finding(selecting: list[Setting]) -> str:
    setting = next((s for s in reversed(selecting) if s.method == "spin"), selecting[-1])
    rounds = pd.concat([_halved(run.rounds) for run in setting.runs])
    favourite = str(rounds["drafter"].value_counts().index[0])
    early, late = (float((rounds.loc[rounds["late"] == half, "drafter"] == favourite).mean()) for half in (False, True))
    return (
        f"{setting.label} gave most rounds to {favourite}: "
        f"{early:.0%} in the first half of the run, {late:.0%} in the second ({setting.load.label})"
    )


def _halved(rounds: pd.DataFrame) -> pd.DataFrame:
    return rounds[["drafter"]].assign(late=rounds["round_index"] >= rounds["round_index"].max() / 2)
