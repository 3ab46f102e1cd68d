"""Figure and page of the regret curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

from benchmarks.regret_runs import MAX_NUM_SPECULATIVE_TOKENS
from spinbench.report.figures.colours import PLAIN, SPIN
from spinbench.report.figures.plot import Plot, new_figure, plot_style, set_title

BAND = (0.05, 0.95)
NAMES_AT = 1.05
"""Where the names of curves stand, as a multiple of the requests at their ends."""
HINDSIGHT = ("oracle", "best_fixed")
"""Selectors that know the texts."""
PAGE = """# Regret of the selectors

{title}.

![{alt}](regret.png)

{caption} Simulated: {seeds} of `traces/mixed.jsonl` with the shipped acceptance table (exact) and profile (two cores
of an AMD EPYC, SmolLM2-135M-Instruct, bfloat16), K = {k}, or at most that where it is chosen by the selector; the
numbers of the curves are in [regret.csv](regret.csv).
Regret is decoding time beyond the oracle's. At batch 1 the oracle is the exact optimum with KV catch-up for nothing; in
a batch it is a bound that nobody can reach, and regret is for comparing methods, not for reading off what could be
gained. Selectors with a choice of reward maximise round goodput (emitted tokens over the whole round), unless "its own
reward" says that they have their paper's. `hedge` has its paper's loss and pays for every drafter's run over prompt and
answer. "best fixed" is the drafter with the least regret over all seeds, which nobody knew in advance; "oracle" and
"best_fixed" know the texts and choose by an estimate of what rounds cost.

```sh
{command}
```

Seconds of regret a request, with the band over the seeds:

{table}
"""


def write_page(out: Path, table: pd.DataFrame, ranked: pd.DataFrame, text: str, seeds: str, command: str) -> None:
    """Leave README.md, regret.png and regret.csv in `out`; `text` is the ranking of `seeds`, by `command`."""
    drawn = plot(table, ranked)
    drawn.save(out)
    page = PAGE.format(
        title=drawn.title, alt=drawn.alt, caption=drawn.caption, seeds=seeds, k=MAX_NUM_SPECULATIVE_TOKENS,
        command=command, table=text,
    )  # fmt: skip
    (out / "README.md").write_text(page, encoding="utf-8")


def bands(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and band over the seeds, by batch, method and requests served."""
    grouped = table.groupby(["batch", "method", "requests"])["regret_s"]
    low, high = (grouped.quantile(share) for share in BAND)
    return pd.DataFrame({"mean_s": grouped.mean(), "low_s": low, "high_s": high}).reset_index()


def plot(table: pd.DataFrame, ranked: pd.DataFrame) -> Plot:
    """Curves of all methods, one panel for each batch size, with the band over seeds."""
    batches = sorted(table["batch"].unique())
    names = list(dict.fromkeys(name for name in ranked["method"] if not name.startswith("best fixed")))
    palette = dict(zip(names, sns.color_palette("husl", len(names)), strict=True))
    palette |= {"plain": PLAIN, "spin": SPIN}
    with plot_style():
        figure = new_figure(7.0, 15.0)
        for axes, batch in zip(np.atleast_1d(figure.subplots(1, len(batches))), batches, strict=True):
            own = ranked[ranked["batch"] == batch]
            colours = {name: palette.get(name, "black") for name in own["method"]}
            shown = table[table["batch"] == batch]
            sns.lineplot(
                shown, x="requests", y="regret_s", hue="method", hue_order=list(own["method"])[::-1], palette=colours,
                errorbar=("pi", 100 * (BAND[1] - BAND[0])), seed=0, legend=False, ax=axes, linewidth=1.6,
                err_kws={"alpha": 0.10},
            )  # fmt: skip
            write_ends(axes, shown, list(own["method"]), colours)
            axes.set(
                xlabel="requests served", ylabel="regret over the oracle (s)" if batch == batches[0] else "",
                title=f"batch {batch}", ylim=(0, None),
            )  # fmt: skip
        title = finding(ranked)
        set_title(figure, title)
    alt = "Lines of cumulated regret over requests served, one for each selector, with bands over seeds."
    low, high = (f"{100 * share:.0f}" for share in BAND)
    caption = f"Mean over seeds, band from the {low}th to the {high}th percentile; methods by their regret at the end."
    return Plot("regret", figure, bands(table), title, alt, caption)


def write_ends(axes: Axes, table: pd.DataFrame, methods: list[str], colours: Mapping[str, Any]) -> None:
    """Each method's name to the right of its curve's end, moved apart where they would overlap, and a line to it."""
    last = table[table["requests"] == table["requests"].max()].groupby("method")["regret_s"].mean()
    step = last.max() / 26
    lines = np.array([1 + name.startswith("best fixed") for name in methods])
    # rising, as methods are ranked; each as far from the one before as half of both names is high
    least = np.cumsum(np.concatenate(([0.0], step * (lines[1:] + lines[:-1]) / 2)))
    own = np.array([last[name] for name in methods])
    heights = isotonic_regression(own - least).x + least
    right = table["requests"].max()
    for name, height in zip(methods, heights, strict=True):
        axes.annotate(
            name.replace("best fixed ", "best fixed:\n"), (right, last[name]), xytext=(NAMES_AT * right, height),
            va="center", fontsize=10, color=colours[name], annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def finding(ranked: pd.DataFrame) -> str:
    """The figure's title: who learns with least regret, and how that compares with the best fixed drafter."""
    parts = []
    for batch, own in ranked.groupby("batch"):
        means = own.set_index("method")["regret_s_per_request"]
        fixed = next(name for name in means.index if name.startswith("best fixed"))
        best = next(name for name in means.index if name not in (fixed, "plain", *HINDSIGHT))
        parts.append(f"at batch {batch} it is {best} with {means[best] / means[fixed]:.2f}x")
    return "Selector of least regret, and its regret over the best fixed drafter's: " + ", ".join(parts)
