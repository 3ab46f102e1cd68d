from pathlib import Path

import pytest

from spinbench.metrics.store import open_run
from spinbench.report.figures.acceptance import acceptance_plot, drafter_rounds
from spinbench.report.figures.colours import colour_map
from spinbench.report.figures.padding import padding_plot, padding_table
from spinbench.report.figures.plot import legend_below, new_figure, plot_style
from spinbench.report.figures.selection import NO_DRAFTER, drafter_shares, selection_plot
from spinbench.report.figures.timeline import NUM_ROUNDS, first_rounds, timeline_plot
from spinbench.report.section import load_sections
from spinbench.report.server_load import Load
from tests.report.made_runs import DRAFTERS, made_record, write_made_run


@pytest.fixture(scope="session")
def section(runs: Path):
    return load_sections([runs])[0][0]


def test_shares_of_drafters_add_up_to_one(section) -> None:
    spin = next(s for s in section.at(Load(4)) if s.method == "spin")
    shares = drafter_shares(spin, section.drafters)
    assert shares[[*section.drafters, NO_DRAFTER]].sum(axis=1).tolist() == pytest.approx([1.0] * len(shares))
    assert shares["round_index"].is_monotonic_increasing
    assert shares[NO_DRAFTER].sum() == 0


def test_drafters_are_compared_on_runs_that_do_not_choose(section) -> None:
    found = drafter_rounds(section)
    assert set(found.rounds["drafter"]) == {"smollm2-d256-code", "prompt-lookup"}
    assert found.is_fair


def test_a_page_says_where_only_selectors_compare_drafters(section) -> None:
    selecting = section.only([one for one in section.settings if len(one.drafters_used) != 1])
    fair, unfair = (acceptance_plot(one) for one in (section, selecting))
    assert fair is not None
    assert unfair is not None
    assert "From runs with one drafter." in fair.caption
    assert "each saw other requests" in unfair.caption
    assert unfair.title.startswith("As selectors chose: ")


def test_no_panel_is_cut_where_another_run_is_shorter(tmp_path: Path) -> None:
    lengths = {}
    for method in ("spin", "epsilon-greedy"):
        few = 6 if method == "spin" else 24
        path = write_made_run(tmp_path / method, method, 4, 0, made_record(method, 4, 0, num_requests=few))
        lengths[method] = int(open_run(path).rounds["round_index"].max())
    plot = selection_plot(load_sections([tmp_path])[0][0], colour_map(("spin", "epsilon-greedy"), DRAFTERS))
    assert plot is not None
    longest = plot.data["round_index"].max()
    assert lengths["epsilon-greedy"] > lengths["spin"]
    assert all(axes.get_xlim()[1] >= longest for axes in plot.figure.axes)


def test_the_heat_map_holds_the_means_of_its_rounds(section) -> None:
    plot = acceptance_plot(section)
    assert plot is not None
    rounds = drafter_rounds(section).rounds
    cell = rounds[(rounds["drafter"] == "prompt-lookup") & (rounds["category"] == "code")]
    row = plot.data.set_index(["drafter", "category"]).loc[("prompt-lookup", "code")]
    assert row.tolist() == pytest.approx([cell["emitted"].mean(), len(cell)])


def test_padding_is_drawn_only_where_there_is_some(section, tmp_path: Path) -> None:
    assert padding_plot(section, {}) is None
    write_made_run(tmp_path, "spin", 4, 0, verification="padded")
    (padded,), _ = load_sections([tmp_path])
    table = padding_table(padded)
    assert 0 < table.loc[0, "padding_share"] < 1
    assert table.loc[0, "read_mb"] == pytest.approx(table.loc[0, "verify_key_tokens"] * 46_080 / 1e6)
    plot = padding_plot(padded, {"spin": "red"})
    assert plot is not None
    assert plot.title == f"spin pads most: {table.loc[0, 'padding_share']:.0%} of its cells at batch 4"


def test_the_timeline_shows_the_first_full_rounds(section) -> None:
    spin = next(s for s in section.at(Load(4)) if s.method == "spin")
    jobs = first_rounds(spin)
    verify = jobs[jobs["kind"] == "verify"]
    assert len(verify) == NUM_ROUNDS
    assert verify["requests"].iloc[0] == 4
    assert jobs["start_ms"].min() == 0
    assert timeline_plot(section) is not None


def test_nothing_chosen_nothing_drawn(tmp_path: Path) -> None:
    write_made_run(tmp_path, "plain", 4, 0)
    (plain,), _ = load_sections([tmp_path])
    assert selection_plot(plain, {}) is None
    assert acceptance_plot(plain) is None


@pytest.mark.parametrize("count", [1, 7, 12])
@pytest.mark.parametrize("length", [4, 24, 46])
def test_a_legend_of_long_names_is_not_cut_off(count: int, length: int) -> None:
    with plot_style():
        figure = new_figure(8.0)
        axes = figure.subplots()
        handles = [axes.plot([0], [0], marker="o")[0] for _ in range(count)]
        legend_below(figure, handles, [f"{place:02d}" + "n" * (length - 2) for place in range(count)])
        figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
