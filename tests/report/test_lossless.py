from pathlib import Path

import numpy as np
import pytest

from spinbench.report.lossless import check_outputs, first_difference
from spinbench.report.section import load_sections

from .made_runs import write_made_run


def test_equal_outputs_are_counted(runs: Path) -> None:
    (section,), _ = load_sections([runs])
    result = check_outputs(section)
    assert result.compared_outputs == 24 * 16  # 17 runs of 24 requests, less the reference itself
    assert result.differing.empty
    assert result.sentence.startswith("Lossless: all 384 outputs equal")


def test_a_differing_output_is_named(lossy_runs: Path) -> None:
    (section,), _ = load_sections([lossy_runs])
    result = check_outputs(section)
    assert result.differing.to_dict("records") == [
        {
            "label": "spin",
            "load": "batch 4",
            "repeat": 0,
            "request_id": "q003",
            "position": 7,
            "plain_token": "307",
            "other_token": "308",
        }
    ]
    assert "1 of 24 outputs differ" in result.sentence
    assert "q003 in spin at batch 4, from output token 7 on" in result.sentence


def test_simulated_answers_prove_nothing(tmp_path: Path) -> None:
    for method in ("plain", "spin"):
        write_made_run(tmp_path / method, method, 4, 0, engine="simulation")
    (section,), _ = load_sections([tmp_path])
    sentence = check_outputs(section).sentence
    assert sentence.startswith("All 24 outputs equal those of plain decoding at the same load, as they must")
    write_made_run(tmp_path / "real", "spin", 4, 0)
    (section,), _ = load_sections([tmp_path])
    assert check_outputs(section).sentence.startswith("Lossless: all 48 outputs")


def test_without_plain_nothing_is_claimed(tmp_path: Path) -> None:
    write_made_run(tmp_path, "spin", 4, 0)
    (section,), _ = load_sections([tmp_path])
    assert "not checked" in check_outputs(section).sentence


def test_texts_of_rejection_sampling_are_not_held_against_plain_decoding(tmp_path: Path) -> None:
    law = {"kind": "rejection", "temperature": 0.8, "top_p": 1.0, "top_k": 0}
    for method in ("plain", "spin"):
        write_made_run(tmp_path / method, method, 4, 0, sampling=law)
    (section,), _ = load_sections([tmp_path])
    result = check_outputs(section)
    assert result.compared_outputs == 0
    assert "under rejection sampling the text depends on who drafts" in result.sentence


@pytest.mark.parametrize(
    ("one", "other", "position"), [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([], [1], 0)]
)
def test_first_difference(one: list[int], other: list[int], position: int | None) -> None:
    assert first_difference(np.array(one), np.array(other)) == position
