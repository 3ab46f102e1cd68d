"""Output tokens per second and speed-up of every method, with the spread over repeats."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from spinbench.report.compare import comparison_table, fastest
from spinbench.report.figures.colours import INK, PAPER, PLAIN, shade_by_setting
from spinbench.report.figures.plot import Plot, name_rows, new_figure, plot_style, set_title, write_beside
from spinbench.report.headlines import busy_share
from spinbench.report.section import Section
from spinbench.report.server_load import Load


def throughput_plot(section: Section, colours: dict[str, str]) -> Plot:
    """One panel per load: a bar per setting, its spread, its speed-up, and plain decoding as a dashed line."""
    colour_of = {setting.label: colours[setting.method] for setting in section.settings}
    hatch_of = shade_by_setting((setting.method, setting.label) for setting in section.settings)
    tables = {load: comparison_table(section, load) for load in section.loads}
    repeats = max(len(setting.runs) for setting in section.settings)
    with plot_style():
        figure = new_figure(1.7 + 0.42 * len(section.labels))
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        labels = list(section.labels)
        for axes, (load, table) in zip(panels, tables.items(), strict=True):
            _draw_bars(axes, table.set_index("method").reindex(labels), colour_of, hatch_of)
            name_rows(axes, labels)
            plain = table.loc[table["is_baseline"], "tokens_per_s"]
            if len(plain):
                axes.axvline(plain.max(), color=PLAIN, linestyle="--", linewidth=1.6, zorder=0.5)
            axes.set_xlim(0, float(table["tokens_per_s_max"].max()) * 1.62)
            axes.set(title=load.label, xlabel="output tokens/s")
        title = _finding(tables)
        set_title(figure, title)
    loads = "; ".join(load.label for load in tables)
    data = pd.concat([table.assign(load=load.label) for load, table in tables.items()], ignore_index=True)
    return Plot(
        name="throughput",
        figure=figure,
        data=data,
        title=title,
        alt=f"Bars of output tokens per second for {len(labels)} methods at {loads}.",
        caption=_caption(section, repeats),
    )


def _caption(section: Section, repeats: int) -> str:
    what = f"Median of {repeats} repeats, black line from smallest to largest" if repeats > 1 else "One run each"
    caption = f"{what}; in brackets the multiple of plain decoding (dashed line)."
    waiting = [load.label for load in section.loads if busy_share(section, load) is not None]
    if waiting:
        caption += (
            f" At {'; '.join(waiting)} even the fastest waits for requests, so that bars show what was asked for, and "
            "hide what could be served."
        )
    return caption


def _draw_bars(axes: Axes, rows: pd.DataFrame, colour_of: Mapping[str, str], hatch_of: Mapping[str, str]) -> None:
    """A bar for each of the `rows`, which are by label, none where a setting was not run at this load."""
    for place, (label, row) in enumerate(rows.iterrows()):
        if math.isnan(row["tokens_per_s"]):
            continue
        name = str(label)
        axes.barh(place, row["tokens_per_s"], color=colour_of[name], hatch=hatch_of[name], edgecolor=PAPER, height=0.72)
        low, high = row["tokens_per_s_min"], row["tokens_per_s_max"]
        axes.plot([low, high], [place, place], color=INK, linewidth=2, marker="|", markersize=9)
        gain = "" if math.isnan(row["speedup"]) else f"  ({row['speedup']:.2f}x)"
        write_beside(axes, high, place, f"{row['tokens_per_s']:.1f}{gain}")


def _finding(tables: dict[Load, pd.DataFrame]) -> str:
    parts = []
    for load, table in tables.items():
        best, *ties = fastest(table)
        row = table[table["method"] == best].iloc[0]
        has_gain = not (row["is_baseline"] or math.isnan(row["speedup"]))
        gain = f" ({row['speedup']:.2f}x plain)" if has_gain else ""
        others = f", level with {len(ties)} other{'s' if len(ties) > 1 else ''}" if ties else ""
        parts.append(f"{load.label}: {best}{gain}{others}")
    return "Fastest at " + "; at ".join(parts)
