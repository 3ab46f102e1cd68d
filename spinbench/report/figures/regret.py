"""How near each setting comes to the oracle."""

import numpy as np
import pandas as pd

from spinbench.report.figures.colours import PAPER, PLAIN
from spinbench.report.figures.plot import Plot, name_rows, new_figure, plot_style, set_title, write_beside


def regret_plot(oracle: pd.DataFrame, methods: dict[str, str], colours: dict[str, str]) -> Plot | None:
    """Bars of the share of the oracle's goodput, a panel per load; None where nothing was simulated beside an oracle.

    `oracle` is `oracle_table`; `methods` gives the method of a label.
    """
    if oracle.empty:
        return None
    loads = list(dict.fromkeys(oracle["load"]))
    labels = [label for label in methods if label in set(oracle["method"])]
    with plot_style():
        figure = new_figure(1.9 + 0.4 * len(labels))
        panels = figure.subplots(1, len(loads), sharey=True, squeeze=False)[0]
        for axes, load in zip(panels, loads, strict=True):
            for row in oracle[oracle["load"] == load].to_dict("records"):
                place = labels.index(str(row["method"]))
                share = 100 * row["share_of_oracle"]
                axes.barh(place, share, color=colours[methods[labels[place]]], edgecolor=PAPER, height=0.7)
                write_beside(axes, share, place, f"{share:.0f} %  ({row['regret_s']:.1f} s)")
            axes.axvline(100, color=PLAIN, linestyle="--", linewidth=1.6, zorder=0.5)
            name_rows(axes, labels)
            axes.set_xlim(0, 175)
            axes.set_xticks(range(0, 101, 25))
            axes.set(title=load, xlabel="share of the oracle's goodput (%)")
        best = oracle.iloc[int(np.nanargmax(oracle["share_of_oracle"].to_numpy()))]
        share = f"{best['share_of_oracle']:.0%} of its goodput at {best['load']}"
        title = f"{best['method']} comes nearest to the oracle: {share}"
        set_title(figure, title)
    return Plot(
        name="regret",
        figure=figure,
        data=oracle,
        title=title,
        alt=f"Bars of the share of the oracle's goodput for {len(labels)} methods.",
        caption="In brackets the regret: decoding time beyond the oracle's, which knows every text (dashed line).",
    )
