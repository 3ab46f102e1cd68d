from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinbench.report.factors import Factors, factors_of, staircase, worth
from spinbench.report.figures.colours import colour_map
from spinbench.report.figures.heat_map import heat_map_plot
from spinbench.report.figures.load_curve import load_plot
from spinbench.report.figures.pareto import DEVICE, USER, number_labels, pareto_plot, pareto_table
from spinbench.report.figures.regret import regret_plot
from spinbench.report.figures.staircase import staircase_plot
from spinbench.report.section import load_sections

NAMES = ("method", "K", "verification")
SPEEDS = {
    # method, K, verification: tokens/s at the low and the high load
    ("plain", "K=0", "padded"): (10, 20),
    ("plain", "K=0", "packed"): (10, 24),
    ("spin", "K=2", "padded"): (12, 30),
    ("spin", "K=2", "packed"): (12, 36),
    ("spin", "K=4", "padded"): (16, 40),
    ("spin", "K=4", "packed"): (16, 48),
    ("random", "K=2", "padded"): (11, 15),
    ("random", "K=2", "packed"): (11, 18),
    ("random", "K=4", "padded"): (13, 10),
    ("random", "K=4", "packed"): (13, 12),
}


@pytest.fixture
def factors() -> Factors:
    rows = [
        {
            "label": " ".join(values),
            "load": load,
            **dict(zip(NAMES, values, strict=True)),
            "pipeline": "serial shared",
            "engine": "simulation",
            "is_oracle": False,
            "is_baseline": values[0] == "plain",
            "repeats": 1,
            "tokens_per_s": speeds[place],
            "speedup": speeds[place] / (10, 24)[place],
            "devices": 1,
            DEVICE: speeds[place],
            USER: 100.0 / speeds[place] if values[0] == "random" else speeds[place] / (place + 1),
        }
        for place, load in enumerate(("low", "high"))
        for values, speeds in SPEEDS.items()
    ]
    return Factors(pd.DataFrame(rows), NAMES, ("low", "high"))


def test_a_choice_is_worth_what_it_gives_with_all_else_equal(factors: Factors) -> None:
    table = worth(factors).set_index(["factor", "value"])
    # spin over random by load, K and layout: 12/11 twice, 16/13 twice, 2 twice, 4 twice; each side has the root
    ratios = np.sqrt(np.array([12 / 11, 12 / 11, 16 / 13, 16 / 13, 2, 2, 4, 4]))
    assert table.loc[("method", "spin"), "ratio"] == pytest.approx(float(np.exp(np.log(ratios).mean())))
    assert table.loc[("method", "spin"), ["contexts", "best"]].tolist() == [8, 8]
    assert table.loc[("method", "random"), "best"] == 0
    # packed over padded: 1 at the low load, 1.2 at the high one; where both are level, both are the fastest
    assert table.loc[("verification", "packed"), "ratio"] == pytest.approx(np.sqrt(np.sqrt(1.2)))
    assert table.loc[("verification", "packed"), "best"] == 8
    assert table.loc[("verification", "padded"), "best"] == 4


def test_a_staircase_leads_from_padded_plain_to_the_fastest(factors: Factors) -> None:
    steps = staircase(factors)
    assert steps["label"].tolist() == ["plain K=0 padded", "spin K=4 padded", "spin K=4 packed"]
    assert steps["changed"].tolist() == ["", "method and K", "verification"]
    assert steps["tokens_per_s"].tolist() == [20, 40, 48]
    plot = staircase_plot(factors, {"plain": "#111111", "spin": "#222222", "random": "#333333"})
    assert plot is not None
    assert plot.title == "2.40x in 2 steps; most of it from spin, K=4 (x2.00)"


def test_where_a_step_was_not_run_there_is_no_staircase(factors: Factors) -> None:
    gaps = factors.table["label"].isin(["spin K=4 padded", "plain K=0 packed"])
    assert staircase(replace(factors, table=factors.table[~gaps])).empty


def test_nothing_beats_the_frontier_in_both(factors: Factors) -> None:
    table = pareto_table(factors)
    frontier = table[table["on_frontier"]]
    for row in table.to_dict("records"):
        beaten = ((table[USER] >= row[USER]) & (table[DEVICE] >= row[DEVICE])
                  & ((table[USER] > row[USER]) | (table[DEVICE] > row[DEVICE]))).any()  # fmt: skip
        twin = ((frontier[USER] == row[USER]) & (frontier[DEVICE] == row[DEVICE])).any()
        assert twin == (not beaten)


def test_numbers_that_would_hide_each_other_are_written_as_one() -> None:
    places = [(10.0, 50.0), (10.2, 49.0), (10.1, 20.0), (40.0, 19.0)]
    assert number_labels(places, right=50, top=60) == [
        ("1, 2", places[1]), ("3", places[2]), ("4", places[3]),
    ]  # fmt: skip


def test_a_heat_map_has_the_best_of_everything_else(factors: Factors) -> None:
    plot = heat_map_plot(factors, "K")
    assert plot is not None
    cells = plot.data.set_index(["load", "method", "K"])
    assert cells.loc[("high", "spin", "K=2"), "speedup"] == pytest.approx(36 / 24)
    assert cells.loc[("high", "spin", "K=2"), ["label", "settings"]].tolist() == ["spin K=2 packed", 2]
    assert plot.title == "spin with K=4 is best at all 2 loads"
    assert heat_map_plot(factors, "pipeline") is None
    middle = factors.table[factors.table["load"] == "low"].assign(load="middle")
    middle.loc[middle["label"] == "random K=2 packed", "speedup"] = 9.0
    table = pd.concat([factors.table, middle], ignore_index=True)
    plot = heat_map_plot(replace(factors, table=table, loads=("low", "middle", "high")), "K")
    assert plot is not None
    assert plot.title == (
        "The best pair depends on the load: spin with K=4 at 2 of 3 loads, the lowest and the highest among them"
    )


def test_a_sweep_has_its_factors_and_figures(sweep: Path) -> None:
    (section,), _ = load_sections([sweep])
    factors = factors_of(section)
    assert factors.names == NAMES
    assert len(factors.table) == 3 * (2 + 2 * 2 * 2)  # loads x (plain in 2 layouts, 2 methods x 2 K x 2 layouts)
    colours = colour_map(factors.table["method"], section.drafters)
    curves, cloud = load_plot(section, colours), pareto_plot(factors, colours)
    assert curves is not None
    assert cloud is not None
    assert sorted(curves.data["arrivals.request_rate"].unique()) == [1.0, 2.0, 4.0]
    assert len(cloud.data) == len(factors.table)


def test_regret_is_drawn_where_an_oracle_was_asked() -> None:
    assert regret_plot(pd.DataFrame(), {}, {}) is None
    table = pd.DataFrame({"method": ["spin"], "load": ["batch 1"], "share_of_oracle": [0.8], "regret_s": [1.5]})
    plot = regret_plot(table, {"spin": "spin"}, {"spin": "#123456"})
    assert plot is not None
    assert plot.title == "spin comes nearest to the oracle: 80% of its goodput at batch 1"
