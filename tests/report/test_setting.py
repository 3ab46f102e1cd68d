from pathlib import Path

import pytest

from spinbench.report.compare import comparison_table
from spinbench.report.focus import SHOWN_METHODS, at_few_loads, focus, with_tables
from spinbench.report.section import load_sections
from spinbench.report.server_load import Load

from .made_runs import write_made_run, write_made_sweep


def test_runs_at_several_request_rates_are_several_loads(tmp_path: Path) -> None:
    for rate in (4.0, 0.5):
        config = {"arrivals": {"kind": "gamma", "request_rate": rate, "seed": 1}}
        write_made_run(tmp_path / f"{rate}", "plain", 4, 0, config=config)
    (section,), _ = load_sections([tmp_path])
    assert [load.label for load in section.loads] == ["batch 4, request rate 0.5", "batch 4, request rate 4"]
    assert section.loads[1].slug == "batch4-request_rate-4"
    assert [len(section.at(load)) for load in section.loads] == [1, 1]


def test_other_keys_tell_settings_apart_and_seeds_do_not(tmp_path: Path) -> None:
    for number, (capacity, seed) in enumerate([(2, 0), (2, 1), (8, 0)]):
        config = {"seed": seed, "selector": {"capacity": capacity, "seed": seed}}
        write_made_run(tmp_path / str(number), "spin", 4, 0, config=config)
    (section,), _ = load_sections([tmp_path])
    assert {setting.label: len(setting.runs) for setting in section.settings} == {
        "spin capacity=2": 2,
        "spin capacity=8": 1,
    }


def test_a_label_leaves_out_what_all_settings_of_its_method_share(tmp_path: Path) -> None:
    own = {"placement": "own_devices"}
    for name, method, changes in (
        ("a", "spin", {"pipeline": "serial", **own}),
        ("b", "spin", {"pipeline": "depth 2 by_drafter", **own}),
        ("c", "spin", {"pipeline": "depth 3 by_drafter", **own}),
        ("d", "random", {"pipeline": "adaptive depth by_drafter", **own}),
        ("e", "random", {"pipeline": "adaptive depth round_robin", "switching": "ahead", **own}),
        ("f", "epsilon-greedy", {"replicas": 2, "router": "round_robin", **own}),
        ("g", "epsilon-greedy", {"replicas": 4, "router": "round_robin", **own}),
        ("h", "epsilon-greedy", own),
    ):
        write_made_run(tmp_path / name, method, 4, 0, **changes)
    (section,), _ = load_sections([tmp_path])
    assert {setting.runs[0].folder.name: setting.label for setting in section.settings} == {
        "a": "spin serial", "b": "spin depth 2", "c": "spin depth 3",
        "d": "random by drafter", "e": "random round robin, KV ahead",
        "f": "epsilon-greedy 2 replicas", "g": "epsilon-greedy 4 replicas", "h": "epsilon-greedy 1 replica",
    }  # fmt: skip
    assert str(section.settings[0].arrangement).endswith(" own devices")


def test_plain_decoding_has_no_k_so_a_sweep_over_k_is_one_simulated_run(tmp_path: Path) -> None:
    (section,), _ = load_sections([write_made_sweep(tmp_path, lengths=(1, 2, 4))])
    plain = [setting for setting in section.at(section.loads[0]) if setting.is_baseline]
    assert [(setting.label, len(setting.runs)) for setting in plain] == [("plain packed", 1), ("plain padded", 1)]


def test_the_fastest_plain_decoding_is_everyones_baseline(sweep: Path) -> None:
    (section,), _ = load_sections([sweep])
    for load in section.loads:
        table = comparison_table(section, load)
        plain = table[table["is_baseline"]]
        assert plain["speedup"].max() == pytest.approx(1.0)
        assert table["speedup"].tolist() == pytest.approx(
            (table["tokens_per_s"] / plain["tokens_per_s"].max()).tolist()
        )


def test_devices_are_counted_where_the_simulator_has_several(tmp_path: Path) -> None:
    hardware = {"device": "cuda", "gpu": "x", "count": 2}
    for name, changes in {
        "shared": {"engine": "simulation"},
        "own": {"engine": "simulation", "placement": "own_devices"},
        "together": {"engine": "simulation", "placement": "drafters_together"},
        "threads": {"engine": "runtime", "placement": "own_devices"},
    }.items():
        write_made_run(tmp_path / name, "random", 4, 0, hardware=hardware, **changes)
    (section,), _ = load_sections([tmp_path])
    # two of the target, and one for each of the four drafters with a network or one for all; lookup needs none
    assert {setting.runs[0].folder.name: setting.devices for setting in section.settings} == {
        "shared": 2, "own": 6, "together": 3, "threads": 2,
    }  # fmt: skip
    table = comparison_table(section, Load(4)).set_index("devices")
    assert table.loc[6, "tokens_per_s_per_device"] == pytest.approx(table.loc[6, "tokens_per_s"] / 6)


def test_a_page_shows_the_best_of_each_kind_of_many_settings(tmp_path: Path) -> None:
    sweep = write_made_sweep(
        tmp_path, ("plain", "random", "spin", "fixed smollm2-d256-code"), (1, 2, 3, 4, 5), rates=(1,)
    )
    (section,), _ = load_sections([sweep])
    shown = focus(section)
    assert len(section.labels) == 32
    assert len(shown.labels) == SHOWN_METHODS
    load = section.loads[0]
    table = comparison_table(section, load).set_index("method")["tokens_per_s"]
    for kind in ("plain", "fixed"):
        assert table[table.index.str.startswith(kind)].idxmax() in shown.labels
    assert table.idxmax() in shown.labels
    assert with_tables(shown) is None


def test_of_many_loads_the_ends_and_the_middle_are_spoken_of(tmp_path: Path) -> None:
    sweep = write_made_sweep(tmp_path, ("plain", "spin"), (4,), ("packed",), (0.5, 1.0, 2.0, 4.0, 8.0))
    (section,), _ = load_sections([sweep])
    assert [load.number("arrivals.request_rate") for load in at_few_loads(section).loads] == [0.5, 2.0, 8.0]
