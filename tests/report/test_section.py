import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinbench.control.selector.merged import MERGED
from spinbench.errors import UserError
from spinbench.report.figures.acceptance import drafter_rounds
from spinbench.report.section import load_sections
from spinbench.report.server_load import Load

from .made_runs import made_record, write_made_run


def test_repeats_are_grouped_and_rows_ordered(runs: Path) -> None:
    (section,), interrupted = load_sections([runs])
    assert interrupted == []
    assert section.loads == (Load(1), Load(4))
    assert [s.label for s in section.at(Load(4))] == [
        "plain",
        "hf generate",
        "fixed smollm2-d256-code",
        "prompt lookup",
        "spin",
    ]
    assert [len(s.runs) for s in section.at(Load(4))] == [2, 1, 2, 2, 2]
    assert section.drafters[0] == "prompt-lookup"  # no multiply-adds: the cheapest
    assert section.drafters[-1] == "smollm2-d576-first-last"


def test_a_peer_of_another_engine_is_held_against_our_plain(runs: Path) -> None:
    (section,), _ = load_sections([runs])
    peer = next(s for s in section.at(Load(4)) if s.engine == "hf")
    baseline = section.baseline_of(peer)
    assert baseline is not None
    assert (baseline.method, baseline.batch) == ("plain", 4)


def test_what_varies_within_a_method_enters_its_label(tmp_path: Path) -> None:
    write_made_run(tmp_path / "a", "spin", 4, 0)
    write_made_run(tmp_path / "b", "spin", 4, 0, verification="padded")
    write_made_run(tmp_path / "c", "spin", 4, 0, num_speculative_tokens=6)
    write_made_run(tmp_path / "d", "spin", 4, 0, drafting="by_match_order")
    write_made_run(tmp_path / "e", "spin", 4, 0, drafting="tree 2-3")
    (section,), _ = load_sections([tmp_path])
    assert section.labels == (
        "spin K by match order packed",
        "spin K=4 packed",
        "spin K=4 padded",
        "spin K=6 packed",
        "spin tree 2-3 packed",
    )


def test_merged_drafts_are_no_drafters_own(tmp_path: Path) -> None:
    record = made_record("random", 4, 0)
    drafters = (*record.drafters, MERGED)
    rounds = replace(
        record.rounds, drafters=drafters, drafter=np.full(len(record.rounds.drafter), len(record.drafters))
    )
    write_made_run(tmp_path / "merged", "merged", 4, 0, replace(record, rounds=rounds, drafters=drafters))
    write_made_run(tmp_path / "fixed", "fixed smollm2-d256-code", 4, 0)
    write_made_run(tmp_path / "tree", "fixed smollm2-d256-code", 4, 0, drafting="tree 2-3")
    (section,), _ = load_sections([tmp_path])
    assert MERGED not in section.drafters
    settings = {setting.label: setting for setting in section.settings}
    assert settings["merged"].drafters_used == ()
    assert [setting.drafts_trees for setting in settings.values()] == [False, True, False]
    # drafters are compared by chains of their own
    chain = settings["fixed smollm2-d256-code K=4"].runs[0]
    assert len(drafter_rounds(section).rounds) == len(chain.rounds)


@pytest.mark.parametrize(
    "change",
    [
        {"trace": {"name": "other", "sha256": "1" * 64, "num_requests": 24}},
        {"models": {"target": {"name": "other", "sha256": "2" * 64}}},
        {"dtype": "float32"},
        {"sampling": {"temperature": 0.8}},
        {"hardware": {"device": "cuda", "gpu": "another"}},
    ],
)
def test_what_must_not_be_compared_gets_its_own_section(tmp_path: Path, change: dict) -> None:
    write_made_run(tmp_path / "a", "plain", 1, 0)
    write_made_run(tmp_path / "b", "plain", 1, 1, **change)
    assert len(load_sections([tmp_path])[0]) == 2


def test_free_memory_does_not_split_a_section(tmp_path: Path) -> None:
    write_made_run(tmp_path / "a", "plain", 1, 0, hardware={"device": "cpu", "cpu": "x", "free_gb": 3})
    write_made_run(tmp_path / "b", "plain", 1, 1, hardware={"device": "cpu", "cpu": "x", "free_gb": 4})
    assert len(load_sections([tmp_path])[0]) == 1


def test_interrupted_runs_are_set_aside(tmp_path: Path) -> None:
    record = replace(made_record("plain", 1, 0), complete=False)
    write_made_run(tmp_path / "cut", "plain", 1, 0, record)
    with pytest.raises(UserError, match="interrupted"):
        load_sections([tmp_path])
    write_made_run(tmp_path / "whole", "plain", 1, 1)
    (section,), interrupted = load_sections([tmp_path])
    assert interrupted == [tmp_path / "cut"]
    assert [run.folder for run in section.runs] == [tmp_path / "whole"]


@pytest.mark.parametrize("key", ["method", "max_num_seqs", "trace.sha256", "models.target.name"])
def test_a_missing_meta_key_is_named(tmp_path: Path, key: str) -> None:
    path = write_made_run(tmp_path / "a", "plain", 1, 0) / "meta.json"
    meta = json.loads(path.read_text())
    inner = meta
    *parents, last = key.split(".")
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        load_sections([tmp_path])
