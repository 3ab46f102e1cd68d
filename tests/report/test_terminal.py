import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from spinbench.cli.report import main
from spinbench.metrics import store
from spinbench.report.section import load_sections
from spinbench.report.terminal import print_table


def test_the_table_fits_and_says_who_is_fastest(runs: Path) -> None:
    out = io.StringIO()
    print_table(load_sections([runs]), Console(file=out, width=110))
    text = out.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 110
    assert "…" not in text
    rows = [line for line in text.splitlines() if line.strip().startswith("fixed smollm2-d256-code  ")]
    assert len(rows) == 2  # batch 1 and batch 4
    assert "1.00x" in text
    assert "Lossless: all 384 outputs equal" in text.replace("\n", " ")


def test_every_file_of_a_run_is_read_once(
    lossy_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, others = [], []
    read_parquet, read_json = store._read_parquet, store._read_json

    def parquet(path: Path, columns: list[str]) -> pd.DataFrame:
        tables.append(path)
        return read_parquet(path, columns)

    def json(path: Path) -> dict[str, object]:
        others.append(path)
        return read_json(path)

    monkeypatch.setattr(store, "_read_parquet", parquet)
    monkeypatch.setattr(store, "_read_json", json)
    assert main([str(lossy_runs), "-o", str(tmp_path)]) == 0
    assert "report in" in capsys.readouterr().out
    for paths, expected in ((tables, 6), (others, 4)):  # 3 tables of 2 runs, and 2 files of JSON of each
        assert (len(paths), len(set(paths))) == (expected, expected)
