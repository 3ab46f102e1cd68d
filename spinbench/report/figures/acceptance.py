"""How well each drafter guesses each category of request, and each position of a draft."""

import pandas as pd
import seaborn as sns

from spinbench.metrics.acceptance import position_rates, with_category
from spinbench.report.colours import PAPER
from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title
from spinbench.report.section import Section

MIN_REACHED = 10
"""Drafts that must have reached a position for its conditional rate to be drawn: less is noise."""


def drafter_rounds(section: Section) -> pd.DataFrame:
    """The rounds that compare drafters fairly: chains of runs with a single drafter, which see every request.

    A selector gives a drafter the requests it is good at; such rounds, and those of trees, are used only where no run
    has a single drafter. Where drafts of several are merged, nobody's own are seen.
    """
    alone = [one for one in section.settings if len(one.drafters_used) == 1 and not one.drafts_trees]
    single = [run for setting in alone for run in setting.runs]
    rounds = [with_category(run.tables) for run in single or section.runs]
    pooled = pd.concat(rounds, ignore_index=True)
    return pooled[pooled["drafter"].isin(section.drafters)]


def acceptance_plot(section: Section) -> Plot | None:
    """A heat map of acceptance length, drafter by category; None when there are no drafts or no categories."""
    rounds = drafter_rounds(section).dropna(subset=["category"])
    if rounds.empty:
        return None
    means = rounds.groupby(["drafter", "category"])["emitted"].agg(["mean", "size"])
    order = [name for name in section.drafters if name in means.index.get_level_values("drafter")]
    grid = means["mean"].unstack("category").reindex(order)
    grid.insert(len(grid.columns), "all", rounds.groupby("drafter")["emitted"].mean().reindex(order))
    with plot_style():
        figure = new_figure(2.2 + 0.55 * len(order))
        axes = figure.subplots()
        sns.heatmap(
            grid,
            ax=axes,
            annot=True,
            fmt=".2f",
            cmap="YlGnBu",
            vmin=1.0,
            linewidths=1,
            linecolor=PAPER,
            cbar_kws={"label": "tokens per round", "pad": 0.02},
            annot_kws={"fontsize": 12},
        )
        axes.axvline(len(grid.columns) - 1, color=PAPER, linewidth=6)
        axes.set(xlabel="category of the request", ylabel="")
        axes.set_xticks(axes.get_xticks(), list(grid.columns), rotation=30, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="y", rotation=0)
        title = _finding(grid)
        set_title(figure, title)
    data = means.rename(columns={"mean": "acceptance_length", "size": "rounds"}).reset_index()
    return Plot(
        name="acceptance_by_category",
        figure=figure,
        data=data,
        title=title,
        alt=f"Heat map of acceptance length for {len(order)} drafters and {len(grid.columns) - 1} categories.",
        caption="Tokens emitted per round, the target's own included; 1.00 is plain decoding. Runs with one drafter.",
    )


def _finding(grid: pd.DataFrame) -> str:
    winners = grid.drop(columns="all").idxmax()
    best = str(grid["all"].idxmax())
    if winners.nunique() == 1:
        return f"{best} is accepted most in every category ({grid.loc[best, 'all']:.2f} tokens per round)"
    own = int((winners == best).sum())
    return (
        f"{best} is accepted most overall ({grid.loc[best, 'all']:.2f}), "
        f"and leads in {own} of {len(winners)} categories: {winners.nunique()} drafters lead somewhere"
    )


def positions_plot(section: Section, colours: dict[str, str]) -> Plot | None:
    """Marginal and conditional acceptance by position in the draft, a line per drafter; None without drafts."""
    rounds = drafter_rounds(section)
    rows = []
    for name in section.drafters:
        rates = position_rates(rounds[rounds["drafter"] == name])
        for position, values in enumerate(zip(rates.marginal, rates.conditional, rates.reached, strict=True), start=1):
            rows.append((name, position, *values))
    data = pd.DataFrame(rows, columns=pd.Index(["drafter", "position", "marginal", "conditional", "reached"]))
    if data.empty:
        return None
    with plot_style():
        figure = new_figure(4.8)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, kind in zip(panels, ("marginal", "conditional"), strict=True):
            sns.lineplot(
                data if kind == "marginal" else data[data["reached"] >= MIN_REACHED],
                x="position",
                y=kind,
                hue="drafter",
                palette=colours,
                marker="o",
                markersize=8,
                linewidth=2.5,
                ax=axes,
                legend=False,
            )
            axes.set(ylim=(0, 1.02), xlabel="position in the draft (tokens)", ylabel="share accepted")
            axes.set_xticks(sorted(data["position"].unique()))
        panels[0].set_title("marginal: of all drafts")
        panels[1].set_title("conditional: given all before")
        names = list(dict.fromkeys(data["drafter"]))
        handles = [panels[0].plot([], [], color=colours[name], marker="o", linewidth=2.5)[0] for name in names]
        legend_below(figure, handles, names)
        title = _position_finding(data)
        set_title(figure, title)
    return Plot(
        name="acceptance_by_position",
        figure=figure,
        data=data,
        title=title,
        alt=f"Lines of acceptance by draft position for {len(names)} drafters.",
        caption="Marginal divides by all drafts (as vLLM does), conditional by drafts that reached the position; where "
        f"fewer than {MIN_REACHED} did, only the CSV has it. From runs with one drafter.",
    )


def _position_finding(data: pd.DataFrame) -> str:
    first = data[data["position"] == 1].set_index("drafter")["marginal"]
    best = str(first.idxmax())
    last = data[data["drafter"] == best].iloc[-1]
    return (
        f"{best}: {first[best]:.0%} of first tokens accepted, "
        f"{last['marginal']:.0%} of drafts still whole at position {last['position']}"
    )
