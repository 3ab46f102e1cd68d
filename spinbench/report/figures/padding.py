"""What share of the verified cells was padding."""

import math

import pandas as pd

from spinbench.report.figures.colours import PAPER, shade_by_setting
from spinbench.report.figures.plot import Plot, name_rows, new_figure, plot_style, set_title, write_beside
from spinbench.report.section import Section
from spinbench.report.setting import Setting


def padding_plot(section: Section, colours: dict[str, str]) -> Plot | None:
    """Bars of the padding share per setting, a panel per load; None when no run padded anything."""
    data = padding_table(section)
    if not (data["padding_share"] > 0).any():
        return None
    hatch_of = shade_by_setting((setting.method, setting.label) for setting in section.settings)
    rows = list(section.labels)
    with plot_style():
        figure = new_figure(1.6 + 0.36 * len(rows))
        panels = figure.subplots(1, len(section.loads), sharey=True, squeeze=False)[0]
        for axes, load in zip(panels, section.loads, strict=True):
            for setting in section.at(load):
                share = 100 * setting.median("padding_share")
                place = rows.index(setting.label)
                axes.barh(
                    place,
                    share,
                    color=colours[setting.method],
                    hatch=hatch_of[setting.label],
                    edgecolor=PAPER,
                    height=0.7,
                )
                if not math.isnan(share):
                    text = f"{share:.1f} %  {setting.verification}"
                    write_beside(axes, share, place, text)
            name_rows(axes, rows)
            axes.set_xlim(0, max(1.0, 100 * float(data["padding_share"].max())) * 1.8)
            axes.set(title=load.label, xlabel="padded share of verified cells (%)")
        worst = data.sort_values("padding_share", ascending=False).iloc[0]
        share = f"{worst['padding_share']:.0%} of its cells at {worst['load']}"
        title = f"{worst['method']} pads most: {share}"
        set_title(figure, title)
    return Plot(
        name="padding",
        figure=figure,
        data=data,
        title=title,
        alt="Bars of the share of padded cells per method and layout.",
        caption="Padded cells / (useful + padded cells) over all verify jobs, median of the repeats.",
    )


def padding_table(section: Section) -> pd.DataFrame:
    """Of every setting: padding share (0 to 1), what a verification's attention reads, and what is copied at once.

    `read_mb` counts keys and values of all layers, padding included, in 1e6 bytes; null where a run does not say what
    a token of its target takes.
    """
    rows = [
        {
            "method": setting.label,
            "verification": setting.verification,
            "load": setting.load.label,
            "padding_share": setting.median("padding_share"),
            "verify_query_tokens": setting.median("verify_query_tokens"),
            "verify_key_tokens": setting.median("verify_key_tokens"),
            "peak_key_tokens": setting.median("peak_key_tokens"),
            "read_mb": setting.median("verify_key_tokens") * _kv_bytes_per_token(setting) / 1e6,
        }
        for setting in section.settings
    ]
    return pd.DataFrame(rows)


def _kv_bytes_per_token(setting: Setting) -> float:
    return float(setting.runs[0].meta["models"]["target"].get("kv_bytes_per_token", "nan"))
