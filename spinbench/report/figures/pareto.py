"""What a user gets against what a device gives: the settings that nothing beats in both."""

from collections.abc import Sequence

import pandas as pd

from spinbench.report.factors import Factors
from spinbench.report.figures.colours import GRID, INK, PAPER
from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title

MAX_NAMED = 8
LABEL_WIDTH, LABEL_HEIGHT = 0.03, 0.06
"""Of a number on the figure, as shares of its axes."""
ROOM_RIGHT, ROOM_ABOVE = 1.06, 1.12
"""Where the axes end, as multiples of the largest value, so that labels are inside."""
USER, DEVICE = "tokens_per_s_per_user", "tokens_per_s_per_device"


def pareto_table(factors: Factors) -> pd.DataFrame:
    """Every runnable setting with its speed per user and per device, and whether it is on the frontier.

    On it is what no other setting reaches in both. A user's speed is 1000 / median TPOT in ms.
    """
    rows = factors.runnable.dropna(subset=[USER, DEVICE])
    rows = rows.sort_values([USER, DEVICE], ascending=False, kind="stable")
    highest_before = rows[DEVICE].cummax().shift(fill_value=0.0)
    rows = rows.assign(on_frontier=rows[DEVICE] > highest_before)
    return rows[["label", "method", "load", "devices", "is_baseline", USER, DEVICE, "on_frontier"]]


def pareto_plot(factors: Factors, colours: dict[str, str]) -> Plot | None:
    """Settings as points, the frontier as a line; None with fewer than three settings."""
    data = pareto_table(factors)
    if len(data) < 3:
        return None
    frontier = data[data["on_frontier"]].sort_values(USER)
    named = frontier.iloc[:: max(1, -(-len(frontier) // MAX_NAMED))]
    with plot_style():
        figure = new_figure(6.2)
        axes = figure.subplots()
        methods = [method for method in dict.fromkeys(factors.table["method"]) if method in set(data["method"])]
        is_cloud = len(data) > 300
        for method in methods:
            own = data[data["method"] == method]
            size, line = (14, 0.0) if is_cloud else (55, 0.8)
            axes.scatter(
                own[USER], own[DEVICE], s=size, color=colours[method], linewidths=line, edgecolors=PAPER, zorder=2,
                rasterized=is_cloud,
            )  # fmt: skip
        axes.plot(frontier[USER], frontier[DEVICE], color=INK, linewidth=1.8, zorder=3)
        axes.scatter(
            frontier[USER], frontier[DEVICE], s=90, zorder=4, edgecolors=INK, linewidths=1.6,
            color=[colours[method] for method in frontier["method"]],
        )  # fmt: skip
        right, top = ROOM_RIGHT * float(data[USER].max()), ROOM_ABOVE * float(data[DEVICE].max())
        places = [(float(x), float(y)) for x, y in zip(named[USER], named[DEVICE], strict=True)]
        for text, place in number_labels(places, right, top):
            axes.annotate(
                text, place, xytext=(7, 7), textcoords="offset points", fontsize=12, zorder=5,
                bbox={"facecolor": PAPER, "edgecolor": GRID, "pad": 1.5},
            )  # fmt: skip
        axes.set(xlabel="output tokens/s per user (1000 / median TPOT)", ylabel="output tokens/s per device")
        axes.set(xlim=(0, right), ylim=(0, top))
        dots = [axes.plot([], [], "o", color=colours[method], markersize=8)[0] for method in methods]
        legend_below(figure, dots, methods)
        title = _finding(data, frontier)
        set_title(figure, title)
    numbers = "; ".join(f"{i}: {row['label']}, {row['load']}" for i, (_, row) in enumerate(named.iterrows(), start=1))
    return Plot(
        name="pareto",
        figure=figure,
        data=data,
        title=title,
        alt=f"{len(data)} settings by tokens per second per user and per device, and their frontier.",
        caption=f"All loads together; right and up is better, and nothing is better in both than what is on the line. "
        f"On it: {numbers}.",
    )


def number_labels(
    places: Sequence[tuple[float, float]], right: float, top: float
) -> list[tuple[str, tuple[float, float]]]:
    """Numbers of places, from 1, and where each stands: neighbours so close that one would hide the other share one.

    `places` are (x, y) on axes that end at `right` and `top`, in the order of their numbers.
    """
    groups: list[list[int]] = []
    for number, (x, y) in enumerate(places):
        first = places[groups[-1][0]] if groups else None
        if first and abs(x - first[0]) < LABEL_WIDTH * right and abs(y - first[1]) < LABEL_HEIGHT * top:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [(", ".join(str(number + 1) for number in group), places[group[-1]]) for group in groups]


def _finding(data: pd.DataFrame, frontier: pd.DataFrame) -> str:
    plain = int(frontier["is_baseline"].sum())
    methods = frontier["method"].nunique()
    of_them = f", plain decoding in {plain}" if plain else "; plain decoding is nowhere the best choice"
    none = not data["is_baseline"].any()
    ends = f"{methods} method{'s' if methods > 1 else ''}"
    return f"{len(frontier)} of {len(data)} settings are beaten by none, of {ends}{'' if none else of_them}"
