"""Figures of the report on SPIN's claims."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.spin_claims.numbers import (
    NAMES,
    PAPER_STEPS,
    best_shares,
    depth_ratios,
    homogeneous,
    open_ratios,
    step_ratios,
)

PAPER = {"color": "black", "marker": "D", "linestyle": "none", "markersize": 7, "label": "paper", "zorder": 5}
BLUE, RED, GREY = "#2166ac", "#d62728", "#6e6e6e"
LABELLED = 0.03
"""Ends of a range that are nearer to the default's ratio have no label."""
LAYOUTS = {"padded": RED, "grouped": "#e8853d", "decomposed": "#9ecae1", "decomposed 32": BLUE, "packed": "#2a9d57"}
PIPELINE_LABELS = {
    "pipeline": "as published",
    "pipeline_round_goodput": "round goodput, no limit",
    "datasheet_float32/pipeline": "as published, datasheet float32",
}
LAYOUT_LABELS = {"decomposed": "decomposed (searched width)", "decomposed 32": "decomposed (width 32)"}


def write_figures(out: Path, table: pd.DataFrame) -> None:
    """All figures, as PNG in `out`."""
    sns.set_theme(style="whitegrid", context="notebook")
    figures = {
        "drafters": _drafters(table),
        "decomposition": _decomposition(table),
        "pipeline": _pipeline(table),
        "staircase": _staircase(table),
        "open_parameters": _open_parameters(table),
    }
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=130)


def _new(width: float, height: float, columns: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)
    figure.suptitle(title, fontsize=13)
    return figure, list(axes[0])


def _drafters(table: pd.DataFrame) -> Figure:
    shares = best_shares(table)
    figure, panels = _new(11, 4.2, 2, "Who is best depends on the request, and on what best means")
    measures = {"draft_goodput": "by accepted tokens / drafting time", "speed": "by emitted tokens / whole round"}
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        data = shares[shares["measure"] == measure]
        sns.barplot(
            data=data, x="workload", y="share", hue="drafter", ax=axes, palette="crest", legend=axes is panels[0]
        )
        axes.set(title=label, xlabel="", ylabel="requests whose best drafter it is (%)", ylim=(0, 100))
        axes.set_xticks(range(len(NAMES)), list(NAMES.values()))
        for place, share in ((0, 3), (1, 40)):
            axes.plot([place - 0.16], [share], **{**PAPER, "label": "paper, 265M" if not place else None})
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _decomposition(table: pd.DataFrame) -> Figure:
    data = table[table["sweep"] == "decomposition"]
    title = "Pieces of 32 tokens take most padding out; the paper's 529 ms are matched, the rest follows"
    figure, panels = _new(11, 4.6, 2, title)
    for axes, workload in zip(panels, ("alpaca", "cp"), strict=True):
        for layout, colour in LAYOUTS.items():
            line = data[(data["workload"] == workload) & (data["layout"] == layout)].sort_values("batch")
            label = LAYOUT_LABELS.get(layout, layout)
            style = "--" if layout == "decomposed" else "-"
            axes.plot(line["batch"], line["verify_ms"], style, color=colour, marker="o", markersize=5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
        axes.set_yticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1,000", "2,000"])
        axes.set(title=NAMES[workload], xlabel="batch (requests)", ylabel="mean verification (ms)")
        if workload == "alpaca":
            axes.plot([16, 16], [529.21, 335.46], **{**PAPER, "label": "paper: padded, decomposed"})
            axes.legend(fontsize=9)
    return figure


def _pipeline(table: pd.DataFrame) -> Figure:
    best = [depth_ratios(table, "pipeline", workload).drop("adaptive").idxmax() for workload in ("alpaca", "cp")]
    title = f"Best number of micro-batches: {best[0]} for Alpaca-like, {best[1]} for CP-like requests; paper: 5 and 3"
    figure, panels = _new(13, 4.6, 3, title)
    for axes, (sweep, label) in zip(panels, PIPELINE_LABELS.items(), strict=True):
        for workload, colour in (("alpaca", BLUE), ("cp", "#e8853d")):
            ratios = depth_ratios(table, sweep, workload)
            fixed = ratios.drop("adaptive")
            axes.plot([int(depth) for depth in fixed.index], fixed, marker="o", color=colour, label=NAMES[workload])
            axes.axhline(ratios["adaptive"], color=colour, linestyle="--", label=f"{NAMES[workload]}, adaptive")
        axes.plot([4], [1.29], **{**PAPER, "label": "paper, about 1.29x"})
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set(title=label, xlabel="micro-batches", ylabel="throughput over serial", ylim=(0, 1.45))
        axes.set_xticks(range(1, 10))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _staircase(table: pd.DataFrame) -> Figure:
    figure, panels = _new(11, 4.6, 2, "Throughput over homogeneous padded speculative decoding")
    labels = ["homogeneous", "+ selection", "+ decomposition", "+ pipeline"]
    rewards = {"ablation": "SPIN as published", "ablation_round_goodput": "round goodput, no limit of places"}
    for axes, (sweep, label) in zip(panels, rewards.items(), strict=True):
        ratios = step_ratios(table, sweep)
        sns.barplot(data=ratios, x="step", y="ratio", hue="workload", ax=axes, palette=[BLUE, "#e8853d", "#2a9d57"],
                    errorbar=("pi", 100), err_kws={"linewidth": 1.2}, capsize=0.2)  # fmt: skip
        axes.set_xticks(range(4), labels, fontsize=10)
        axes.plot(range(4), [PAPER_STEPS[step] for step in ratios["step"].unique()], **{**PAPER, "label": "paper, CP"})
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set(title=label, xlabel="", ylabel="over homogeneous, same requests", ylim=(0, 3.4))
        axes.legend(title="", fontsize=9, loc="upper left")
    return figure


def _open_parameters(table: pd.DataFrame) -> Figure:
    ratios = open_ratios(table)
    full = float(homogeneous(table, "mix").loc["pipeline"])
    names = list(dict.fromkeys(ratios["parameter"]))
    figure, (axes,) = _new(9.5, 7.2, 1, f"What moves SPIN's gain most: {', '.join(names[:4])}")
    for place, name in enumerate(names):
        values = ratios[ratios["parameter"] == name]
        low, high = min(values["ratio"].min(), full), max(values["ratio"].max(), full)
        axes.plot([low, high], [place, place], color="#9ecae1", linewidth=9, solid_capstyle="butt", zorder=1)
        axes.plot(values["ratio"], [place] * len(values), "o", color=BLUE, markersize=5, zorder=3)
        for end, align in ((low, "right"), (high, "left")):
            if abs(end - full) > LABELLED:
                label = values.loc[(values["ratio"] - end).abs().idxmin(), "value"].replace("_", " ")
                axes.annotate(f"  {label}  ", (end, place), ha=align, va="center", fontsize=9, color="#333333")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(full, color=RED, linewidth=1.2, label=f"defaults: {full:.2f}x")
    axes.axvline(2.28, color="black", linestyle="--", linewidth=1.2, label="paper, overall: 2.28x")
    axes.set(xlabel="throughput of all of SPIN over homogeneous, mix of requests (x)", xlim=(0, 3.4))
    axes.legend(fontsize=9, loc="lower left")
    return figure
