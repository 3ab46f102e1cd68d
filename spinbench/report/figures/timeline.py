"""The first rounds of one run, lane by lane."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from spinbench.metrics.timeline import lane_order
from spinbench.report.figures.colours import INK, ON_COLOUR, SPAN_KINDS
from spinbench.report.figures.plot import Plot, legend_of_kinds, name_rows, new_figure, plot_style, set_title
from spinbench.report.section import Section
from spinbench.report.setting import Setting

NUM_ROUNDS = 6
WIDE = 0.045
"""Share of the axis that a job needs for its number."""


def timeline_plot(section: Section) -> Plot | None:
    """Jobs of the first rounds on their lanes, of the run with most to see; None when no run verified anything."""
    candidates = [setting for setting in section.settings if setting.has_tables and len(setting.runs[0].rounds)]
    if not candidates:
        return None
    setting = max(candidates, key=lambda s: (s.method == "spin", len(s.drafters_used), s.batch))
    data = first_rounds(setting)
    lanes = [lane for lane in lane_order(setting.runs[0].tables) if lane in set(data["lane"])]
    end_ms = float(data["end_ms"].max())
    with plot_style():
        figure = new_figure(2.1 + 0.55 * len(lanes))
        axes = figure.subplots()
        _draw_jobs(axes, data, lanes, end_ms)
        name_rows(axes, lanes)
        axes.set_xlim(0, 1.02 * end_ms)
        axes.set_xlabel("time (ms)")
        legend_of_kinds(figure, data["kind"])
        title = _finding(setting, data, end_ms)
        set_title(figure, title)
    return Plot(
        name="timeline",
        figure=figure,
        data=data,
        title=title,
        alt=f"Jobs on {len(lanes)} lanes over {end_ms:.0f} milliseconds.",
        caption="Numbers on or behind jobs: the requests served. The whole run is in its trace.json, for Perfetto.",
    )


def _draw_jobs(axes: Axes, data: pd.DataFrame, lanes: Sequence[str], end_ms: float) -> None:
    """A bar per job, with the number of its requests on it, or behind it where there is room."""
    room_ms = data.groupby("lane")["start_ms"].shift(-1, fill_value=2 * end_ms) - data["end_ms"]
    for job in data.assign(room_ms=room_ms).to_dict("records"):
        colour, place = SPAN_KINDS[job["kind"]], lanes.index(job["lane"])
        width_ms = max(job["end_ms"] - job["start_ms"], 0.003 * end_ms)  # the shortest job stays visible
        axes.barh(place, width_ms, left=job["start_ms"], color=colour, edgecolor=colour, height=0.75)
        wide = width_ms > WIDE * end_ms
        if not wide and job["room_ms"] < WIDE * end_ms:
            continue  # the number would lie on the next job
        axes.annotate(
            str(job["requests"]),
            (job["start_ms"] + (width_ms / 2 if wide else width_ms), place),
            xytext=(0 if wide else 3, 0),
            textcoords="offset points",
            ha="center" if wide else "left",
            va="center",
            color=ON_COLOUR if wide else INK,
            fontsize=12 if wide else 10,
        )


def first_rounds(setting: Setting) -> pd.DataFrame:
    """Jobs of the first rounds with a full batch: lane, kind, round_index, start_ms and end_ms (from 0), requests.

    Of several replicas, the first that has such a round.
    """
    parts = [own for own in setting.runs[0].tables.by_replica if len(own.rounds)]
    tables = max(parts, key=lambda own: own.rounds["batch_size"].max())
    rounds = tables.rounds
    full = rounds.loc[rounds["batch_size"] == rounds["batch_size"].max(), "round_index"].min()
    spans = tables.spans
    wanted = spans["round_index"].between(full, full + NUM_ROUNDS - 1)
    begin_s, end_s = spans.loc[wanted, "start_s"].min(), spans.loc[wanted, "end_s"].max()
    shown = spans[(spans["start_s"] >= begin_s) & (spans["end_s"] <= end_s)]
    return pd.DataFrame(
        {
            "lane": shown["lane"],
            "kind": shown["kind"],
            "round_index": shown["round_index"],
            "start_ms": (shown["start_s"] - begin_s) * 1e3,
            "end_ms": (shown["end_s"] - begin_s) * 1e3,
            "requests": shown["request_ids"].map(len),
        }
    ).sort_values("start_ms", ignore_index=True)


def _finding(setting: Setting, data: pd.DataFrame, end_ms: float) -> str:
    busy_ms = (data["end_ms"] - data["start_ms"]).groupby(data["lane"]).sum()
    target = float(busy_ms.get("target", 0.0)) / end_ms if end_ms else 0.0
    where = f"{setting.label} at {setting.load.label}"
    return f"{where}: the target works {target:.0%} of the time in the first {NUM_ROUNDS} full rounds"
