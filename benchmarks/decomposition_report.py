"""CSV, figure and README of the comparison of layouts."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

RAGGED_SHARE = 0.25
"""Above this share of padding, decomposed is to be faster than padded."""


def write_report(folder: Path, table: pd.DataFrame, facts: str, command: str, budget_mb: float) -> None:
    """Leave `decomposition.csv`, `decomposition.png` and `README.md` in `folder`, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(folder / "decomposition.csv", index=False)
    finding = _finding(table)
    _figure(table, finding, budget_mb).savefig(folder / "decomposition.png", dpi=150)
    text = _page(table, finding, facts, command, budget_mb)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def _finding(table: pd.DataFrame) -> str:
    ragged = table[(table["padding of padded"] > RAGGED_SHARE) & table["over padded"].notna()]
    ours = ragged[ragged["layout"] == "decomposed"]["over padded"]
    if ours.empty:
        return f"No batch with more than {RAGGED_SHARE:.0%} padding ran padded"
    faster = int((ours < 1).sum())
    return (
        f"Decomposed is faster than padded in {faster} of {len(ours)} batches with more than {RAGGED_SHARE:.0%} "
        f"padding: {ours.min():.2f} to {ours.max():.2f} of its time"
    )


def _closest(table: pd.DataFrame) -> str:
    """The ragged batch that decomposing gains least on, with what its repeats span."""
    ours = table[(table["layout"] == "decomposed") & (table["padding of padded"] > RAGGED_SHARE)]
    ours = ours[ours["over padded"].notna()].sort_values("over padded")
    if ours.empty:
        return ""
    row = ours.iloc[-1]
    spread = f"{row['over padded, min']:.2f} to {row['over padded, max']:.2f} over the repeats"
    return f" It gains least at batch {row['batch']} in {row['dtype']}: {row['over padded']:.2f} ({spread})."


def _figure(table: pd.DataFrame, finding: str, budget_mb: float) -> Figure:
    dtypes = list(dict.fromkeys(table["dtype"]))
    order = list(dict.fromkeys(table["layout"]))
    colours = dict(zip(order, sns.color_palette("colorblind", len(order)), strict=True))
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure(figsize=(5.6 * len(dtypes), 8.2), layout="constrained")
        panels = figure.subplots(2, len(dtypes), squeeze=False, sharex=True, sharey="row")
    for column, dtype in enumerate(dtypes):
        data = table[table["dtype"] == dtype]
        times, memory = panels[:, column]
        for axes, value in ((times, "over padded"), (memory, "peak, counted (MB)")):
            sns.lineplot(
                data=data, x="batch", y=value, hue="layout", style="layout", markers=True, dashes=False, ax=axes,
                palette=colours, legend=axes is memory and column == 0,
            )  # fmt: skip
        times.axhline(1.0, color="grey", linewidth=1)
        shares = data.drop_duplicates("batch")
        for batch, share in zip(shares["batch"], shares["padding of padded"], strict=True):
            times.annotate(f"{share:.0%}", (batch, 0.02), ha="center", fontsize=9, color="dimgrey")
        times.set(title=f"{dtype} (below: padding of padded)", ylabel="attention time, padded = 1")
        memory.set(ylabel="peak beside the KV cache (MB)", xlabel="batch (requests)", yscale="log")
        memory.axhline(budget_mb, color="grey", linewidth=1, linestyle="--")
        memory.annotate("budget", (1, budget_mb), fontsize=9, color="dimgrey", va="bottom")
        memory.set_xscale("log", base=2)
        memory.set_xticks(sorted(set(data["batch"])), [str(batch) for batch in sorted(set(data["batch"]))])
    panels[0, 0].set_ylim(0, 1.08 * float(table["over padded"].max()))
    legend = panels[1, 0].get_legend()
    handles, labels = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    legend.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(finding, fontsize=13)
    return figure


def _page(table: pd.DataFrame, finding: str, facts: str, command: str, budget_mb: float) -> str:
    parts = [
        "# Request decomposition",
        f"{finding}.{_closest(table)}",
        f"`{command}`",
        f"Contexts drawn from {facts}. Times are of laying a batch out and of all layers' attention, linear layers "
        "left out; ratios to padded are taken within a repeat. Widths and windows are searched under a law fitted to "
        "other shapes in the same process.",
        "![time and memory by batch](decomposition.png)",
    ]
    for dtype, data in table.groupby("dtype", sort=False):
        cells = {
            layout: [_cell(row) for row in rows.to_dict("records")]
            for layout, rows in data.groupby("layout", sort=False)
        }
        batches = data.drop_duplicates("batch")
        shown = pd.DataFrame(
            {"batch": batches["batch"].to_list(), "padding": [f"{share:.0%}" for share in batches["padding of padded"]]}
            | cells
        )
        parts += [f"## {dtype}: ms (over padded), peak MB", shown.to_markdown(index=False)]
    refused = table[~table["runs"]]
    if len(refused):
        names = [f"{row['layout']} at batch {row['batch']} ({row['dtype']})" for row in refused.to_dict("records")]
        parts.append(
            f"Refused before they allocated, because they need more than {budget_mb:g} MB: {', '.join(names)}."
        )
    parts.append("All columns, with the spread and measured memory: [decomposition.csv](decomposition.csv).")
    return "\n\n".join(parts) + "\n"


def _cell(row: Mapping[Hashable, Any]) -> str:
    memory = f"{row['peak, counted (MB)']:.1f}"
    if not row["runs"]:
        return f"refused, {memory}"
    over = row["over padded"]
    ratio = f" ({over:.2f})" if over == over else ""
    return f"{row['median (ms)']:.1f}{ratio}, {memory}"
