"""Real and simulated runs over each other: distributions of latencies, and timelines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from spinbench.metrics.metric import MetricValue
from spinbench.metrics.store import Run
from spinbench.metrics.timeline import lane_order
from spinbench.metrics.validation import DecidedAgain, JobsCompared, request_latency_ms
from spinbench.report.figures.colours import SPAN_KINDS
from spinbench.report.figures.plot import (
    Plot,
    legend_below,
    legend_of_kinds,
    name_rows,
    new_figure,
    plot_style,
    set_title,
)

REAL, SIMULATED = "#8c8c8c", "#c44e52"
NAMES = {"ttft": "time to first token (ms)", "tpot": "time per output token (ms)", "e2el": "end-to-end latency (ms)"}
SHOWN_SPANS = 40


@dataclass(frozen=True)
class LoadResult:
    """Both engines at one request rate."""

    load: float
    """Request rate over capacity."""
    rate_rps: float
    real: list[Run]
    simulated: Run
    decided_again: list[DecidedAgain]
    """Per real run, its decisions repeated by the simulator with its own durations."""
    rescaled: list[Mapping[str, MetricValue]]
    """Per real run, the summary of a simulation whose job times are the profile's, scaled to those of the other real
    runs; none where there is only one."""
    pace: list[JobsCompared]
    """Jobs of the profile, timed again around the real runs; none where that was not done."""
    at_pace: list[Mapping[str, MetricValue]]
    """Per real run, the summary of a simulation whose job times are the profile's, scaled to what was found around that
    run; none where `pace` lacks one."""


def cdf_plot(results: Sequence[LoadResult]) -> Plot:
    """Cumulative shares of requests, a row per load; each real run in grey, the simulated one over them."""
    rows = []
    with plot_style():
        figure = new_figure(1.6 + 2.7 * len(results), width_in=13)
        panels = figure.subplots(len(results), len(NAMES), sharey=True, squeeze=False)
        handles = {}
        for line, result in enumerate(results):
            for axes, (latency, label) in zip(panels[line], NAMES.items(), strict=True):
                runs = [("real", REAL, 1.6, run) for run in result.real]
                for name, colour, width, run in [*runs, ("simulated", SIMULATED, 2.6, result.simulated)]:
                    values = np.sort(request_latency_ms(run.tables, latency).dropna().to_numpy(dtype=float))
                    shares = np.arange(1, len(values) + 1) / max(len(values), 1)
                    (handles[name],) = axes.step(values, shares, where="post", color=colour, linewidth=width)
                    rows.append(pd.DataFrame({"load": result.load, "engine": name, "latency": latency, "ms": values}))
                axes.set(xlabel=label, ylim=(0, 1.01), title=f"load {result.load:g}")
                axes.set_xlim(left=0)
            panels[line, 0].set_ylabel("share of requests")
        names = ["real, each run", "simulated"]
        legend_below(figure, [handles["real"], handles["simulated"]], names)
        data = pd.concat(rows, ignore_index=True)
        title = f"Medians of simulated latencies are within {_worst_median(data):.1%} of the measured ones"
        set_title(figure, title)
    return Plot(
        name="latencies",
        figure=figure,
        data=data,
        title=title,
        alt=f"Cumulative distributions of three latencies at {len(results)} loads, real and simulated.",
        caption="Every completed request. The horizontal distance between the lines is the error.",
    )


def _worst_median(data: pd.DataFrame) -> float:
    """Largest relative error of the median of a latency at a load, all real runs together."""
    medians = data.groupby(["engine", "load", "latency"])["ms"].median()
    return float((medians["simulated"] / medians["real"] - 1).abs().max())


def timelines_plot(result: LoadResult) -> Plot:
    """The first jobs of a real run and of the simulated one, one above the other on the same scale."""
    with plot_style():
        figure = new_figure(7.0, width_in=12)
        upper, lower = figure.subplots(2, 1, sharex=True)
        shown = [
            _draw(upper, result.real[0], f"runtime, load {result.load:g}"),
            _draw(lower, result.simulated, f"simulation, load {result.load:g}"),
        ]
        lower.set_xlabel("time since the first job (ms)")
        data = pd.concat(shown, ignore_index=True)
        legend_of_kinds(figure, data["kind"])
        title = f"The first {SHOWN_SPANS} jobs on both engines"
        set_title(figure, title)
    return Plot(
        name="timelines",
        figure=figure,
        data=data,
        title=title,
        alt="Jobs on their lanes over time, the runtime above, the simulation below.",
        caption="Both time axes begin with the first job. Whole runs are in each run's trace.json, for Perfetto.",
    )


def _draw(axes: Axes, run: Run, title: str) -> pd.DataFrame:
    spans = run.spans.sort_values("start_s").head(SHOWN_SPANS)
    begin_s = float(spans["start_s"].min())
    data = pd.DataFrame(
        {
            "engine": str(run.meta["engine"]),
            "lane": spans["lane"],
            "kind": spans["kind"],
            "start_ms": (spans["start_s"] - begin_s) * 1e3,
            "end_ms": (spans["end_s"] - begin_s) * 1e3,
        }
    )
    lanes = [lane for lane in lane_order(run.tables) if lane in set(data["lane"])]
    for job in data.to_dict("records"):
        width_ms = job["end_ms"] - job["start_ms"]
        axes.barh(lanes.index(job["lane"]), width_ms, left=job["start_ms"], color=SPAN_KINDS[job["kind"]], height=0.75)
    name_rows(axes, lanes)
    axes.set_title(title)
    return data
