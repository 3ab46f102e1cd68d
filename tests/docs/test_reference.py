"""The pages that are made from the code are up to date, and their makers tell keys, types and comments apart."""

from pathlib import Path

import pytest

from docs.reference.config_page import SCHEMAS
from docs.reference.pages import FOLDER, PAGES
from docs.reference.types import parameter_types, section_types
from docs.reference.yaml_keys import Key, read_config_file
from spinbench.cli.config.replay import ReplayConfig
from spinbench.cli.locations import shipped_folder


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "write it with: python -m docs.reference"


def test_every_command_with_a_config_is_on_the_page() -> None:
    assert {path.stem for path in shipped_folder("conf").glob("*.yaml")} <= set(SCHEMAS)


def test_types_and_ranges() -> None:
    types = section_types(ReplayConfig, {"engine": "simulation"})
    assert types["seed"] == "integer >= 0"
    assert types["slo"] == "text or null"
    assert types["kv.gpu_memory_utilization"] == "number > 0, <= 1"
    assert types["engine.acceptance"] == "table, bootstrap, synthetic"
    assert "engine.graphs" not in types
    assert section_types(ReplayConfig, {"engine": "runtime"})["engine.profile"] == "text or null"
    tree = parameter_types("spinbench.control.draft_length.tree.TreeDraftLength")
    assert tree == {"branching": "list, not empty (each integer >= 1, <= 16)"}


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        "# What it is,\n# in two lines.\n\n# Of a list.\nnames:\n  - a\n  - b\n    c=1\nsection:\n  # Inner,\n  # >= 1.\n  size: 3\n"
        "hydra:\n  run: x\n"
    )
    file = read_config_file(path)
    assert file.about == "What it is, in two lines."
    assert file.keys == (Key("names", "a, b c=1", "Of a list."), Key("section.size", "3", "Inner, >= 1."))

    path.write_text("# What it is.\n_target_: a.B\n# Its key.\nkey: ${seed}\n")
    file = read_config_file(path)
    assert (file.about, file.target, file.keys) == ("What it is.", "a.B", (Key("key", "${seed}", "Its key."),))
