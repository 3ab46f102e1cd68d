import json
from pathlib import Path

import pytest

from spinbench.report.compare import (
    best_fixed,
    comparison_table,
    fastest,
    fastest_by_category,
    headline,
    selector_sentence,
    switching_table,
)
from spinbench.report.figures.throughput import throughput_plot
from spinbench.report.pages.cells import comparison_cells, frame_cells, markdown_table
from spinbench.report.section import load_sections
from spinbench.report.server_load import Load

from .made_runs import write_made_run


def _set_throughput(folder: Path, tokens_per_s: float) -> None:
    _set_summary(folder, output_throughput=tokens_per_s)


def _set_summary(folder: Path, **values: float) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, **values}))


@pytest.fixture
def measured(tmp_path: Path):
    def write(**throughputs: list[float]):
        for method, values in throughputs.items():
            name = {"fixed": "fixed smollm2-d256-code"}.get(method, method)
            for repeat, value in enumerate(values):
                _set_throughput(write_made_run(tmp_path / method / str(repeat), name, 4, repeat), value)
        return load_sections([tmp_path])[0][0]

    return write


def test_speedups_divide_by_the_median_of_plain(measured) -> None:
    table = comparison_table(measured(plain=[9, 10, 12], spin=[14, 20, 21]), Load(4)).set_index("method")
    assert table.loc["spin", ["tokens_per_s", "tokens_per_s_min", "tokens_per_s_max"]].tolist() == [20, 14, 21]
    assert table.loc["spin", ["speedup", "speedup_min", "speedup_max"]].tolist() == [2.0, 1.4, 2.1]  # / 10
    assert table.loc["plain", ["speedup", "speedup_min", "speedup_max"]].tolist() == [1.0, 0.9, 1.2]


def test_the_headline_names_the_fastest_and_its_spread(measured) -> None:
    section = measured(plain=[9, 10, 12], spin=[19, 20, 21])
    text = headline(section, Load(4))
    assert text.startswith(
        "At batch 4 the fastest is **spin**: 2.00x plain, 20.0 output tokens/s (19.0 to 21.0 over 3 repeats)"
    )
    assert "next is plain (1.00x, 10.0 tokens/s)." in text
    assert fastest(comparison_table(section, Load(4))) == ["spin"]


def test_overlapping_repeats_are_not_told_apart(measured) -> None:
    section = measured(plain=[9, 10, 12], spin=[11, 13, 14])
    assert "they cannot be told apart" in headline(section, Load(4))
    assert fastest(comparison_table(section, Load(4))) == ["spin", "plain"]


def test_single_runs_do_not_claim_a_difference(measured) -> None:
    assert "too few repeats" in headline(measured(plain=[10], spin=[20]), Load(4))


def test_without_plain_there_is_no_speedup(measured) -> None:
    section = measured(spin=[20, 21])
    assert comparison_table(section, Load(4))["speedup"].isna().all()
    assert "plain" not in headline(section, Load(4))


def test_choosing_is_held_against_the_best_fixed_drafter(measured) -> None:
    section = measured(plain=[10, 10], fixed=[20, 20], spin=[15, 15])
    expected = "Choosing among drafters (spin) gives 0.75x the best fixed choice (fixed smollm2-d256-code) at batch 4."
    assert selector_sentence(section, Load(4)) == expected


def test_the_best_fixed_drafter_and_k_in_hindsight(tmp_path: Path) -> None:
    for number, (k, tokens_per_s) in enumerate([(2, 18), (4, 20), (6, 19)]):
        method = "fixed smollm2-d256-code"
        run = write_made_run(tmp_path / str(number), method, 4, 0, num_speculative_tokens=k)
        _set_throughput(run, tokens_per_s)
    _set_throughput(write_made_run(tmp_path / "spin", "spin", 4, 0), 30)
    (section,), _ = load_sections([tmp_path])
    best = best_fixed(section, Load(4))
    assert best is not None
    assert best.label == "fixed smollm2-d256-code K=4"
    assert best_fixed(section, Load(8)) is None


def test_the_oracle_is_no_contestant(measured) -> None:
    section = measured(plain=[10, 10], fixed=[20, 20], spin=[15, 15], oracle=[40, 40])
    assert "the fastest is **fixed smollm2-d256-code**" in headline(section, Load(4))
    assert "(spin) gives 0.75x" in (selector_sentence(section, Load(4)) or "")
    assert section.at(Load(4))[-1].method == "oracle"


def test_the_best_is_bold_and_the_noise_beside_it(measured) -> None:
    section = measured(plain=[9, 10, 12], spin=[19, 20, 21])
    text = markdown_table(*comparison_cells(comparison_table(section, Load(4))))
    assert "**20.0 (19.0..21.0)**" in text
    assert "**2.00x (1.90..2.10)**" in text
    assert "**10.0" not in text


def test_categories_name_the_fastest_fixed_drafter(runs: Path) -> None:
    (section,), _ = load_sections([runs])
    table = fastest_by_category(section, Load(1)).set_index("category")
    assert table.loc["code", "best_fixed_drafter"] == "fixed smollm2-d256-code"
    assert (table["best_speedup"] >= table["best_fixed_speedup"]).all()
    assert len(table) == 8


def test_categories_without_a_fixed_drafter_name_none(measured) -> None:
    table = fastest_by_category(measured(plain=[10], spin=[20]), Load(4))
    assert list(table.columns) == ["category", "plain_tokens_per_s", "best_method", "best_speedup"]


def test_one_setting_is_not_compared_by_category(measured) -> None:
    assert fastest_by_category(measured(spin=[20]), Load(4)).empty


def test_plain_is_no_multiple_of_itself_where_it_is_fastest(measured) -> None:
    section = measured(plain=[20], spin=[10])
    assert throughput_plot(section, {"plain": "#111111", "spin": "#222222"}).title == "Fastest at batch 4: plain"


def test_changes_of_drafter_are_compared_where_they_differ(tmp_path: Path) -> None:
    for switching, stall_ms in (("on_demand", 8.0), ("ahead", 8.0)):
        run = write_made_run(tmp_path / switching, "spin", 4, 0, switching=switching)
        _set_summary(run, num_switches=5, mean_switch_stall_ms=stall_ms, p99_switch_stall_ms=9.0)
    write_made_run(tmp_path / "plain", "plain", 4, 0)
    assert switching_table(load_sections([tmp_path])[0][0]).empty  # both the same: nothing to compare
    _set_summary(tmp_path / "ahead", mean_switch_stall_ms=1.0)
    _set_summary(tmp_path / "ahead", num_switches=4.5)  # the median of two repeats
    table = switching_table(load_sections([tmp_path])[0][0])
    shown = frame_cells(table, counts=("switches",))
    assert sorted((row[2].text, row[3].text) for row in shown) == [("4.5", "1.00"), ("5", "8.00")]
    assert dict(zip(table["method"], table["mean_stall_ms"], strict=True)) == {
        "spin KV on demand": 8.0,
        "spin KV ahead": 1.0,
    }
