"""How methods and one other factor work together: the best speed-up of each pair, a panel per load."""

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from spinbench.report.factors import DRAFT_LENGTH, LAYOUT, METHOD, PIPELINE, Factors
from spinbench.report.figures.colours import GRID, INK, PAPER
from spinbench.report.figures.plot import Plot, new_figure, plot_style, set_title

MAX_LOADS = 6
MAX_ROWS, MAX_COLUMNS = 16, 10
NAMES = {DRAFT_LENGTH: "draft length", LAYOUT: "verification layout", PIPELINE: "pipeline and placement"}


def heat_map_plot(factors: Factors, name: str) -> Plot | None:
    """A cell per method and value of the factor `name`, a panel per load; None where fewer than two of each were run.

    A cell has the best over all other factors, so that no method suffers from a bad choice of those.
    """
    rows = factors.runnable
    rows = rows[~rows["is_baseline"]]
    value = "tokens_per_s" if rows["speedup"].isna().all() else "speedup"
    rows = rows.dropna(subset=[value])
    methods, columns = list(dict.fromkeys(rows[METHOD])), factors.values(name, rows)
    pairs = rows[[METHOD, name]].drop_duplicates()
    if len(methods) < 2 or len(columns) < 2 or len(pairs) < len(methods) + 2:
        return None
    best = rows.loc[rows.groupby(["load", METHOD, name])[value].idxmax()]
    sizes = rows.groupby(["load", METHOD, name]).size().rename("settings").reset_index()
    data = best[["load", METHOD, name, value, "label"]].merge(sizes, on=["load", METHOD, name])
    ranked = data.groupby(METHOD)[value].max().sort_values(ascending=False).index[:MAX_ROWS]
    methods, columns = [one for one in methods if one in ranked], columns[:MAX_COLUMNS]
    loads = [load for load in factors.loads if load in set(data["load"])]
    shown = [loads[place] for place in sorted({round(i) for i in np.linspace(0, len(loads) - 1, MAX_LOADS)})]
    width = min(3, len(shown))
    height = math.ceil(len(shown) / width)
    centre = 1.0 if value == "speedup" else float(data[value].median())
    reach = max(float((data[value] - centre).abs().max()), 0.05)
    with plot_style():
        figure = new_figure(1.6 + height * (0.9 + 0.42 * len(methods)))
        panels = figure.subplots(height, width, sharey=True, squeeze=False)
        for axes in panels.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, load in zip(panels.flat, shown, strict=False):
            grid = data[data["load"] == load].pivot(index=METHOD, columns=name, values=value)
            grid = grid.reindex(index=methods, columns=columns)
            _draw_grid(axes, grid, (centre - reach, centre + reach), ".2f" if value == "speedup" else ".0f")
            axes.set(title=load, xlabel=NAMES.get(name, name), ylabel="")
        title = _finding(data, name, value, loads)
        set_title(figure, title)
    what = "Speed-up over plain decoding at the same load" if value == "speedup" else "Output tokens/s"
    return Plot(
        name=f"heat_map_{name.replace('.', '_')}",
        figure=figure,
        data=data,
        title=title,
        alt=f"Heat maps of {len(methods)} methods by {NAMES.get(name, name)}, at {len(shown)} loads.",
        caption=f"{what}, of each pair the best over everything else that was varied; framed: the best of its load."
        + (f" {len(shown)} of {len(loads)} loads are drawn." if len(shown) < len(loads) else ""),
    )


def _draw_grid(axes: Axes, grid: pd.DataFrame, limits: tuple[float, float], number_format: str) -> None:
    """The cells, coloured between the `limits`, with a frame around the largest."""
    sns.heatmap(
        grid, ax=axes, annot=True, fmt=number_format, cmap="vlag_r", cbar=False, vmin=limits[0], vmax=limits[1],
        linewidths=1, linecolor=PAPER, annot_kws={"fontsize": 12},
    )  # fmt: skip
    axes.set_facecolor(GRID)
    line, column = divmod(int(np.nanargmax(grid.to_numpy())), grid.shape[1])
    axes.add_patch(Rectangle((column, line), 1, 1, fill=False, edgecolor=INK, linewidth=2.5, zorder=4))
    names = list(grid.columns)
    rotation, side = (30, "right") if max(map(len, names)) > 6 else (0, "center")
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=rotation, ha=side, rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)


def _finding(data: pd.DataFrame, name: str, value: str, loads: list[str]) -> str:
    """Whether one choice is the best everywhere, or which it is at the lowest and the highest load."""
    best = data.loc[data.groupby("load")[value].idxmax()].set_index("load").loc[loads]
    text = [f"{row[METHOD]} with {row[name]}" for _, row in best.iterrows()]
    if len(set(text)) == 1:
        where = "" if len(loads) == 1 else f" at all {len(loads)} loads"
        return f"{text[0]} is best{where}"
    if text[0] == text[-1]:
        where = f"at {text.count(text[0])} of {len(loads)} loads, the lowest and the highest among them"
        return f"The best pair depends on the load: {text[0]} {where}"
    return f"The best pair depends on the load: {text[0]} at {loads[0]}, {text[-1]} at {loads[-1]}"
