"""What share of requests keeps the latency limits as the request rate grows, and where the goal is missed."""

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from spinbench.metrics.capacity import Capacity
from spinbench.report.figures.colours import PLAIN, SPIN
from spinbench.report.figures.plot import Plot, new_figure, plot_style, set_title

LINE = "#2166ac"


def capacity_plot(rows: pd.DataFrame, capacity: Capacity, slo: str, method: str) -> Plot:
    """Two panels over the request rate: share of requests within the limits, and how many a second that are.

    `rows` has the columns `request_rate` (inf is not drawn), `share_within`, `request_goodput` and
    `request_throughput`, by rate.
    """
    shown = rows[np.isfinite(rows["request_rate"])]
    rate, share = shown["request_rate"], f"{100 * capacity.goal:.4g} %"
    with plot_style():
        figure = new_figure(4.6)
        left, right = figure.subplots(1, 2)
        left.plot(rate, shown["share_within"], color=LINE, marker="o", markersize=5, linewidth=2)
        left.axhline(capacity.goal, color=PLAIN, linestyle="--", linewidth=1.6)
        left.annotate(
            f"goal {share}", (rate.min(), capacity.goal), xytext=(0, -14), textcoords="offset points", fontsize=12,
            color=PLAIN,
        )  # fmt: skip
        left.set(xlabel="request rate (requests/s)", ylabel="requests within the limits", ylim=(0, 1.05))
        left.yaxis.set_major_formatter(PercentFormatter(1.0))
        right.plot(rate, rate, color=PLAIN, linestyle="--", linewidth=1.6, label="all that arrive")
        right.plot(rate, shown["request_throughput"], color="#e8853d", linewidth=2, label="finished")
        right.plot(
            rate, shown["request_goodput"], color=LINE, marker="o", markersize=5, linewidth=2, label="within the limits"
        )
        right.set(xlabel="request rate (requests/s)", ylabel="requests/s", ylim=(0, None))
        right.legend(frameon=False, fontsize=12)
        for axes in (left, right):
            axes.axvline(capacity.request_rate, color=SPIN, linewidth=1.6)
            axes.set_xlim(left=0)
        title = f"{method} keeps {slo} for {share} of requests up to {capacity.request_rate:.3g} requests/s"
        set_title(figure, title)
    return Plot(
        name="capacity",
        figure=figure,
        data=rows,
        title=title,
        alt=f"Share of requests within the limits, and goodput, at {len(shown)} request rates.",
        caption="Simulated. Red: the largest rate that keeps the goal.",
    )
