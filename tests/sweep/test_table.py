"""The table says what points set and what came of it, in the same bytes whatever the order."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from spinbench.errors import UserError
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.point import SweepPoint, point_key
from spinbench.sweep.table import varying_columns, write_table
from spinbench.sweep.worker import work


def made(path: Path, order: list[int]) -> SweepFolder:
    folder = SweepFolder(path)
    points = []
    for number in order:
        selector = ("spin", "plain")[number % 2]
        config = {
            "selector": {"_target_": f"a.{selector}", **({"decay": 0.5} if selector == "spin" else {})},
            "scheduler": {"max_num_seqs": number},
            "models": {"drafters": ["a", "b"]},
            "engine": {"kind": "simulation"},
        }
        key = point_key(config, {}, {})
        points.append(SweepPoint(key, f"p{number}", config, {"selector": selector, "engine": "simulation"}, ()))

    def run(point: SweepPoint, _: Path) -> dict[str, object]:
        number = point.config["scheduler"]["max_num_seqs"]
        if number == 3:
            raise UserError("no such thing")
        return {
            "output_throughput": 1.5 * number, "completed": number, "complete": True, "rates": [1, 0.5],
            "by_drafter": {"a": 2}, "slo_ms": None, "seconds": 1 if number == 1 else 0.25,
        }  # fmt: skip

    work(folder, folder.begin(folder.add(points), {}, 1, {}), run)
    return folder


def test_the_order_does_not_show(tmp_path: Path) -> None:
    tables = []
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 1, 0, 2])):
        write_table(made(tmp_path / name, order))
        tables.append((tmp_path / name / "points.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_what_a_row_says(tmp_path: Path) -> None:
    folder = made(tmp_path / "sweep", [0, 1, 2, 3])
    table = write_table(folder)
    assert varying_columns(table) == ["scheduler.max_num_seqs", "selector", "selector.decay"]
    assert varying_columns(pq.read_table(folder.path / "points.parquet")) == varying_columns(table)
    frame = pd.read_parquet(folder.path / "points.parquet").set_index("scheduler.max_num_seqs").sort_index()
    assert frame["status"].tolist() == ["done", "done", "done", "failed"]
    assert frame.loc[3, "failure"] == "UserError: no such thing"
    assert frame["selector"].tolist() == ["spin", "plain"] * 2
    assert frame["output_throughput"].tolist()[:3] == [0.0, 1.5, 3.0]
    assert frame["seconds"].tolist()[:3] == [0.25, 1.0, 0.25]
    assert frame.loc[0, "rates"].tolist() == [1.0, 0.5]
    assert frame.loc[0, "by_drafter.a"] == 2
    assert json.loads(frame.loc[2, "config"])["models"] == {"drafters": ["a", "b"]}
    assert "engine" not in frame
    assert table.column("key").to_pylist() == sorted(table.column("key").to_pylist())


def test_damage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sweep here"):
        write_table(SweepFolder(tmp_path))
    folder = made(tmp_path / "sweep", [0])
    (folder.path / "p0" / "point.json").write_text("{")
    with pytest.raises(UserError, match=r"p0/point\.json: not valid JSON"):
        write_table(folder)
    (folder.path / "sweep.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="key 'format' is 2, this version reads 1"):
        write_table(folder)
