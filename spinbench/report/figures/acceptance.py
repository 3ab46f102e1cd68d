"""How well each drafter guesses each category of request, and each position of a draft."""

from dataclasses import dataclass

import pandas as pd
import seaborn as sns

from spinbench.metrics.acceptance import position_rates, with_category
from spinbench.report.figures.colours import PAPER
from spinbench.report.figures.plot import Plot, legend_below, new_figure, plot_style, set_title
from spinbench.report.section import Section

OF_ONE = "From runs with one drafter."
OF_SEVERAL = (
    "From the rounds that selectors gave to each drafter, since no run has a single one: each saw other requests, "
    "namely those that it was thought good at, so this does not compare drafters fairly (`selector=fixed` would)."
)
MIN_REACHED = 10
"""Drafts that must have reached a position for its conditional rate to be drawn: less is noise."""


@dataclass(frozen=True, eq=False)
class DrafterRounds:
    """Rounds by which drafters are compared."""

    rounds: pd.DataFrame
    is_fair: bool
    """Whether each drafter drafted for every request, as in runs with one drafter; else selectors chose for which."""

    @property
    def note(self) -> str:
        """Whose rounds they are."""
        return OF_ONE if self.is_fair else OF_SEVERAL

    def title(self, finding: str) -> str:
        """The finding, with a word of warning where drafters are not compared on the same requests."""
        return finding if self.is_fair else f"As selectors chose: {finding}"


def drafter_rounds(section: Section) -> DrafterRounds:
    """The rounds that compare drafters fairly: chains of runs with a single drafter, which see every request.

    A selector gives a drafter the requests it is good at; such rounds, and those of trees, are used only where no run
    has a single drafter. Where drafts of several are merged, nobody's own are seen.
    """
    alone = [one for one in section.settings if len(one.drafters_used) == 1 and not one.drafts_trees]
    single = [run for setting in alone for run in setting.runs]
    rounds = [with_category(run.tables) for run in single or section.runs]
    pooled = pd.concat(rounds, ignore_index=True)
    return DrafterRounds(pooled[pooled["drafter"].isin(section.drafters)], is_fair=bool(single))


def acceptance_plot(section: Section) -> Plot | None:
    """A heat map of acceptance length, drafter by category; None when there are no drafts or no categories."""
    found = drafter_rounds(section)
    rounds = found.rounds.dropna(subset=["category"])
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
        title = found.title(_finding(grid))
        set_title(figure, title)
    data = means.rename(columns={"mean": "acceptance_length", "size": "rounds"}).reset_index()
    return Plot(
        name="acceptance_by_category",
        figure=figure,
        data=data,
        title=title,
        alt=f"Heat map of acceptance length for {len(order)} drafters and {len(grid.columns) - 1} categories.",
        caption=f"Tokens emitted per round, the target's own included; 1.00 is plain decoding. {found.note}",
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
    found = drafter_rounds(section)
    rounds = found.rounds
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
        title = found.title(_position_finding(data))
        set_title(figure, title)
    return Plot(
        name="acceptance_by_position",
        figure=figure,
        data=data,
        title=title,
        alt=f"Lines of acceptance by draft position for {len(names)} drafters.",
        caption="Marginal divides by all drafts (as vLLM does), conditional by drafts that reached the position; where "
        f"fewer than {MIN_REACHED} did, only the CSV has it. {found.note}",
    )


def _position_finding(data: pd.DataFrame) -> str:
    first = data[data["position"] == 1].set_index("drafter")["marginal"]
    best = str(first.idxmax())
    last = data[data["drafter"] == best].iloc[-1]
    return (
        f"{best}: {first[best]:.0%} of first tokens accepted, "
        f"{last['marginal']:.0%} of drafts still whole at position {last['position']}"
    )
