"""How latencies are distributed over requests."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from spinbench.metrics.latency import latency_samples
from spinbench.report.figures.colours import shade_by_setting
from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title
from spinbench.report.section import Section
from spinbench.report.setting import Setting

NAMES = {"ttft": "time to first token (ms)", "tpot": "time per output token (ms)"}
DASHES = {"": "-", "//": "--", "..": ":", "xx": "-.", "\\\\": (0, (5, 1, 1, 1, 1, 1))}


def latency_plot(section: Section, colours: dict[str, str]) -> Plot:
    """Cumulative shares of requests by TTFT and TPOT, a row per load and a line per setting."""
    hatch_of = shade_by_setting((setting.method, setting.label) for setting in section.settings)
    samples = {setting: _pooled_ms(setting) for setting in section.settings}
    rows = []
    with plot_style():
        figure = new_figure(2.0 + 3.4 * len(section.loads))
        panels = figure.subplots(len(section.loads), 2, sharey=True, squeeze=False)
        handles = {}
        for line, load in enumerate(section.loads):
            for axes, (latency, axis_label) in zip(panels[line], NAMES.items(), strict=True):
                for setting in section.at(load):
                    values = np.sort(samples[setting][latency])
                    shares = np.arange(1, len(values) + 1) / max(len(values), 1)
                    width = 3.5 if setting.is_baseline or setting.method == "spin" else 2.0
                    (handles[setting.label],) = axes.step(
                        values,
                        shares,
                        where="post",
                        color=colours[setting.method],
                        linestyle=DASHES[hatch_of[setting.label]],
                        linewidth=width,
                    )
                    rows.append(
                        pd.DataFrame(
                            {
                                "method": setting.label,
                                "load": load.label,
                                "latency": latency,
                                "ms": values,
                                "share": shares,
                            }
                        )
                    )
                axes.set(title=load.label, xlabel=axis_label, ylim=(0, 1.01))
                axes.set_xlim(left=0)
                axes.xaxis.set_major_locator(MaxNLocator(5))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            panels[line, 0].set_ylabel("share of requests")
        labels = [label for label in section.labels if label in handles]
        legend_below(figure, [handles[label] for label in labels], labels)
        title = _finding(section, samples)
        set_title(figure, title)
    return Plot(
        name="latency",
        figure=figure,
        data=pd.concat(rows, ignore_index=True),
        title=title,
        alt=f"Cumulative distributions of TTFT and TPOT for {len(labels)} methods.",
        caption="Completed requests of all repeats. TTFT counts from arrival, queueing included; "
        "TPOT = (E2EL - TTFT) / (tokens - 1).",
    )


def _pooled_ms(setting: Setting) -> dict[str, np.ndarray]:
    samples = [latency_samples(run.tables) for run in setting.runs]
    return {name: np.concatenate([sample.of(name) for sample in samples]) for name in NAMES}


def _finding(section: Section, samples: dict[Setting, dict[str, np.ndarray]]) -> str:
    parts = []
    for load in section.loads:
        medians = {s: float(np.median(samples[s]["tpot"])) for s in section.at(load) if len(samples[s]["tpot"])}
        if not medians:
            continue
        best = min(medians, key=lambda setting: medians[setting])
        plain = section.baseline_of(best)
        against = f" (plain {medians[plain]:.1f})" if plain in medians and plain is not best else ""
        parts.append(f"{load.label}: {best.label} {medians[best]:.1f} ms{against}")
    return "Median time per output token, lowest: " + "; ".join(parts)
