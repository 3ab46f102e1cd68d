"""From the simplest setting to the best, one change at a time."""

import pandas as pd

from spinbench.report.factors import Factors, staircase
from spinbench.report.figures.colours import PAPER, PLAIN
from spinbench.report.figures.plot import Plot, name_rows, new_figure, plot_style, set_title, write_beside


def staircase_plot(factors: Factors, colours: dict[str, str]) -> Plot | None:
    """A bar per step, with its multiple of the first; None where no such way was run."""
    steps = staircase(factors)
    if steps.empty:
        return None
    first = steps.iloc[0]
    steps["over_first"] = steps["tokens_per_s"] / first["tokens_per_s"]
    steps["over_first_per_device"] = steps["tokens_per_s_per_device"] / first["tokens_per_s_per_device"]
    several = steps["devices"].nunique() > 1
    names = [_start(first, factors), *(_change(row, factors) for _, row in steps.iloc[1:].iterrows())]
    with plot_style():
        figure = new_figure(1.9 + 0.6 * len(steps))
        axes = figure.subplots()
        for place, row in enumerate(steps.to_dict("records")):
            colour = colours[str(row["method"])]
            axes.barh(place, row["tokens_per_s"], color=colour, edgecolor=PAPER, height=0.7)
            text = f"{row['tokens_per_s']:.1f}  ({row['over_first']:.2f}x)"
            if several:
                text += f"  per device {row['over_first_per_device']:.2f}x ({row['devices']})"
            write_beside(axes, row["tokens_per_s"], place, text)
        axes.axvline(first["tokens_per_s"], color=PLAIN, linestyle="--", linewidth=1.6, zorder=0.5)
        name_rows(axes, names)
        axes.set_xlim(0, float(steps["tokens_per_s"].max()) * (2.0 if several else 1.4))
        axes.set_xlabel("output tokens/s")
        title = _finding(steps, names)
        set_title(figure, title)
    columns = ["step", "changed", "label", "load", *factors.names, "tokens_per_s", "over_first", "devices"]
    columns += ["tokens_per_s_per_device", "over_first_per_device"]
    return Plot(
        name="staircase",
        figure=figure,
        data=steps[columns],
        title=title,
        alt=f"Bars of output tokens per second for {len(steps)} steps from {first['label']} to the fastest setting.",
        caption=f"At {first['load']}, each step with one more change; in brackets the multiple of the first. Another "
        "order of the same changes would share the gain out otherwise.",
    )


def _start(row: pd.Series, factors: Factors) -> str:
    own = [str(row[name]) for name in factors.names if name != "method" and not (row["is_baseline"] and name == "K")]
    return ", ".join([str(row["method"]), *own])


def _change(row: pd.Series, factors: Factors) -> str:
    return "+ " + ", ".join(str(row[name]) for name in factors.names if name in row["changed"].split(" and "))


def _finding(steps: pd.DataFrame, names: list[str]) -> str:
    gains = steps["tokens_per_s"].pct_change().iloc[1:]
    largest = int(gains.to_numpy().argmax()) + 1
    total = steps["over_first"].iloc[-1]
    what = f"{names[largest].removeprefix('+ ')} (x{1 + gains.max():.2f})"
    return f"{total:.2f}x in {len(gains)} steps; most of it from {what}"
