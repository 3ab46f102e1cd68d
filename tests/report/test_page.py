import re
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from spinbench.errors import UserError
from spinbench.report.page import write_report

from .made_runs import write_made_run


def test_the_answer_comes_first(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert lines[0] == "# Plain against spin"
    assert lines[2].startswith("- At batch 1 the fastest is **")
    assert "How sure: at batch 4 the mean time per output token of " in "\n".join(lines[:10])
    assert "Lossless: all 384 outputs equal" in "\n".join(lines[:12])


def test_every_link_leads_to_a_file_and_every_picture_has_alt_text_and_numbers(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 15
    assert all((page.parent / link).is_file() for link in links)
    pictures = re.findall(r"!\[([^\]]*)\]\((figures/[^)]+\.png)\)", text)
    assert {Path(path).stem for _, path in pictures} == {
        "throughput",
        "acceptance_by_category",
        "acceptance_by_position",
        "selection",
        "latency",
        "timeline",
        "pareto",
    }
    for alt, path in pictures:
        assert len(alt) > 30
        assert not pd.read_csv((page.parent / path).with_suffix(".csv")).empty
    assert "No verify job of these runs computed a padded cell." in text


def test_samples_keep_their_fences_and_provenance_is_there(page: Path) -> None:
    text = page.read_text()
    assert "````text\nAnswer q000:\n```python" in text
    for expected in (
        "embedded real weights",
        "torch 2.13.0+cpu",
        "bfloat16",
        "sha256 77aa77aa77aa",
        "spinbench replay selector=spin",
    ):
        assert expected in text


def test_the_same_runs_give_the_same_bytes(runs: Path, page: Path, tmp_path: Path) -> None:
    style_before = dict(mpl.rcParams)
    again = write_report([runs], tmp_path, title="Plain against spin")
    assert dict(mpl.rcParams) == style_before
    made = sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    assert made == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for path in made:
        assert (page.parent / path).read_bytes() == (again.parent / path).read_bytes(), path


@pytest.mark.usefixtures("undrawn")
def test_a_difference_is_shown_with_its_request(lossy_runs: Path, tmp_path: Path) -> None:
    text = write_report([lossy_runs], tmp_path).read_text()
    assert "**1 of 24 outputs differ**" in text
    assert re.search(r"\| spin +\| batch 4 +\| +0 \| q003 +\| +7 \|", text)


@pytest.mark.usefixtures("undrawn")
def test_runs_that_must_not_be_compared_are_said_to_be_so(tmp_path: Path) -> None:
    write_made_run(tmp_path / "runs" / "a", "plain", 1, 0)
    write_made_run(tmp_path / "runs" / "b", "plain", 1, 0, dtype="float32")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text()
    assert "must not be compared" in text
    assert "## Section 1: SmolLM2-135M-Instruct, trace mixed, bfloat16" in text
    assert "## Section 2: SmolLM2-135M-Instruct, trace mixed, float32" in text
    assert (tmp_path / "out" / "figures" / "section2-throughput.png").is_file()


def test_a_folder_that_cannot_be_written_is_named(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the report"):
        write_report([runs], tmp_path / "file" / "out")


@pytest.mark.parametrize("name", ["report.md.j2", "report.html.j2", "report.css", "report.js"])
def test_the_template_is_inside_the_package(name: str) -> None:
    assert (files("spinbench.report") / "templates" / name).is_file()
