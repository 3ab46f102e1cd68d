"""How throughput and latency change with the load."""

import pandas as pd

from spinbench.report.compare import comparison_table
from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title
from spinbench.report.section import Section

SHOWN = {
    "tokens_per_s": "output tokens/s",
    "tpot_p50_ms": "median time per output token (ms)",
    "ttft_p99_ms": "p99 time to first token (ms)",
}
MIN_LOADS = 3
STYLES = ("-", "--", ":", "-.")


def load_plot(section: Section, colours: dict[str, str]) -> Plot | None:
    """A line per setting over the load, by request rate where that varies, else by batch; None below three loads."""
    keys = [key for key, _ in section.loads[0].arrivals] if section.loads else []
    key = next((key for key in (*keys, "batch") if _is_numeric(section, key)), None)
    if key is None:
        return None
    data = _over(section, key)
    rests = list(dict.fromkeys(data["rest"]))[: len(STYLES)]
    drawn = _fastest_of_each_method(data.loc[data["rest"].isin(rests)])
    name = key.rsplit(".", 1)[-1].replace("_", " ") + (" (requests/s)" if key.endswith("request_rate") else "")
    with plot_style():
        figure = new_figure(5.6, width_in=12)
        panels = figure.subplots(1, len(SHOWN), squeeze=False)[0]
        handles = {}
        for axes, (column, label) in zip(panels, SHOWN.items(), strict=True):
            for _, own in drawn.groupby(["label", "rest"], sort=False):
                line = own.sort_values("x")
                setting, rest = line["label"].iloc[0], line["rest"].iloc[0]
                baseline = line["method"].iloc[0] == "plain"
                (handles[setting],) = axes.plot(
                    line["x"], line[column], marker="o", color=colours[line["method"].iloc[0]],
                    linestyle=STYLES[rests.index(str(rest))], linewidth=3 if baseline else 2,
                )  # fmt: skip
            axes.set(xlabel=name, ylabel=label)
            axes.set_ylim(bottom=0)
        labels = [label for label in section.labels if label in handles]
        legend_below(figure, [handles[label] for label in labels], labels)
        title = _finding(data, name)
        set_title(figure, title)
    return Plot(
        name="load",
        figure=figure,
        data=data.rename(columns={"x": key}),
        title=title,
        alt=f"Throughput, time per output token and time to first token of {len(labels)} settings over the {name}.",
        caption="Medians over the repeats."
        + (" Of each method the setting that is fastest at the highest load." if len(drawn) < len(data) else "")
        + (
            ""
            if len(rests) < 2
            else " Lines by " + "; ".join(f"{STYLES[i]} {rest}" for i, rest in enumerate(rests)) + "."
        ),
    )


def _over(section: Section, key: str) -> pd.DataFrame:
    """A row per setting and load: label, method, what is drawn; `x` is the load's `key`, `rest` all else of it."""
    rows: list[pd.DataFrame] = []
    for load in section.loads:
        rest = ", ".join(
            [f"batch {load.batch}"] * (key != "batch") + [f"{k} {v}" for k, v in load.arrivals if k != key]
        )
        table = comparison_table(section, load)[["method", *SHOWN]]
        names = {setting.label: setting.method for setting in section.at(load)}
        rows.append(
            table.rename(columns={"method": "label"}).assign(
                method=table["method"].map(names), load=load.label, x=load.number(key), rest=rest
            )
        )
    return pd.concat(rows, ignore_index=True)


def _fastest_of_each_method(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of one setting per method and rest: lines of one colour could not be told apart."""
    last = data.loc[data["x"] == data["x"].max()].sort_values("tokens_per_s", ascending=False)
    kept = last.drop_duplicates(["method", "rest"])[["label", "rest"]]
    return data.merge(kept, on=["label", "rest"])


def _is_numeric(section: Section, key: str) -> bool:
    values = {load.number(key) for load in section.loads}
    return len(values) >= MIN_LOADS and all(0 < value < float("inf") for value in values)


def _finding(data: pd.DataFrame, name: str) -> str:
    parts = []
    for x in (data["x"].min(), data["x"].max()):
        own = data[(data["x"] == x) & data["tpot_p50_ms"].notna()]
        best = own.loc[own["tpot_p50_ms"].idxmin()]
        parts.append(f"{best['label']} at {name.split(' (')[0]} {x:g} ({best['tpot_p50_ms']:.1f} ms)")
    return "Least time per output token: " + ", ".join(parts)
