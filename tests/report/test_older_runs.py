"""Runs of older versions, which lack what came later, are reported and compared all the same, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from spinbench.cli.main import main
from spinbench.metrics import store
from spinbench.metrics.store import Kept
from spinbench.report.section import REQUIRED_META

from .made_runs import write_made_run

META = {"format", "start_s", "end_s", "drafters", "kept", *(key.partition(".")[0] for key in REQUIRED_META)}
SUMMARY = {"complete", "output_throughput", "mean_ttft_ms"}
COLUMNS = {"rounds": "draft_depth", "spans": "used_tokens"}
"""Of what must be there, and what was added to tables."""


def older(folder: Path, method: str, keep: Kept = "all") -> Path:
    """A run with as little in it as one can be asked about."""
    write_made_run(folder, method, 4, 0, config={"scheduler": {"max_num_seqs": 4}}, keep=keep)
    for name, known in (("meta.json", META), ("summary.json", SUMMARY)):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if key in known}))
    for name, column in COLUMNS.items() if keep == "all" else ():
        path = folder / f"{name}.parquet"
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of runs that are read, in order: tables and JSON."""
    paths: list[Path] = []
    read_parquet, read_json = store._read_parquet, store.read_json

    def parquet(path: Path, columns: list[str]) -> pd.DataFrame:
        paths.append(path)
        return read_parquet(path, columns)

    def described(path: Path, missing: str | None = None) -> dict[str, Any]:
        paths.append(path)
        return read_json(path, missing)

    monkeypatch.setattr(store, "_read_parquet", parquet)
    monkeypatch.setattr(store, "read_json", described)
    return paths


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_old_and_new(tmp_path: Path, opened: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    older(tmp_path / "plain", "plain")
    older(tmp_path / "spin", "spin")
    newer = {"scheduler": {"max_num_seqs": 4}, "engine": {"kind": "runtime", "graphs": "off"}, "switching": "ahead"}
    write_made_run(tmp_path / "random", "random", 4, 0, config=newer, switching="ahead", sampling=None, hardware=None)
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    page = (tmp_path / "out" / "report.md").read_text()
    assert all(method in page for method in ("plain", "spin", "random"))
    assert "Lossless: all 48 outputs equal" in page
    # for the terminal and for the page: 3 tables and 2 files of JSON of each run
    assert len(opened) == len(set(opened)) == 3 * (3 + 2)


@pytest.mark.parametrize("keep", ["all", "summary"])
def test_a_comparison_of_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep: Kept
) -> None:
    monkeypatch.chdir(tmp_path)
    older(Path("old"), "spin", keep)
    newer = {"scheduler": {"max_num_seqs": 4}, "switching": "ahead"}
    write_made_run(Path("new"), "spin", 4, 0, config=newer, keep=keep)
    assert main(["compare", "old", "new"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "switching: - -> ahead" in said.out
    Path("old/config.yaml").unlink()
    assert main(["compare", "old", "new"]) == 2
    assert capsys.readouterr().err == "error: old/config.yaml: missing, so this is no complete run folder\n"
