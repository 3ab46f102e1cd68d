import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from spinbench.control.records.run_record import RunRecord
from spinbench.errors import UserError
from spinbench.metrics import store
from spinbench.metrics.identities import IdentityError
from spinbench.metrics.store import find_runs, read_run, write_run
from spinbench.metrics.summary import summarise
from spinbench.metrics.tables import tables_from_record

from .records import rounds

META = {"method": "plain", "hardware": "a box", "note": "naïve"}
CONFIG = {"seed": 3, "selector": {"name": "spin", "capacity": [1, 2]}, "text": "${not.an.interpolation}"}
TEXTS, PROMPTS = {"a": "hello\n— wörld"}, {"a": "say", "b": "hi"}


@pytest.fixture
def folder(tmp_path: Path, record: RunRecord) -> Path:
    write_run(tmp_path / "run", record, config=CONFIG, meta=META, texts=TEXTS, prompts=PROMPTS)
    return tmp_path / "run"


def test_what_is_read_is_what_was_written(folder: Path, record: RunRecord) -> None:
    run = read_run(folder)
    tables = tables_from_record(record, TEXTS, PROMPTS)
    pd.testing.assert_frame_equal(run.requests, tables.requests)
    pd.testing.assert_frame_equal(run.rounds, tables.rounds)
    pd.testing.assert_frame_equal(run.spans, tables.spans)
    assert run.requests["output_text"].tolist()[0] == TEXTS["a"]
    assert run.requests["output_text"].isna().tolist() == [False, True]
    assert (run.tables.drafters, run.tables.start_s, run.tables.end_s) == (("d1", "d2"), 0.0, 20.0)
    assert run.config == CONFIG
    assert run.meta["method"] == "plain"
    assert run.meta["note"] == "naïve"
    assert run.complete
    assert {key: run.summary[key] for key in summarise(tables)} == summarise(tables)


def test_rounds_of_older_runs_are_chains(folder: Path) -> None:
    path = folder / "rounds.parquet"
    pd.read_parquet(path).drop(columns="draft_depth").to_parquet(path)
    run = read_run(folder)
    assert run.rounds["draft_depth"].tolist() == run.rounds["drafted"].tolist()


def test_spans_of_a_run_from_before_drafting_ahead_are_read(folder: Path) -> None:
    path = folder / "spans.parquet"
    pd.read_parquet(path).drop(columns="used_tokens").to_parquet(path)
    assert set(read_run(folder).spans["used_tokens"]) == {0}


def test_nothing_temporary_stays(folder: Path) -> None:
    names = {
        "requests.parquet",
        "rounds.parquet",
        "spans.parquet",
        "trace.json",
        "config.yaml",
        "meta.json",
        "summary.json",
    }
    assert {path.name for path in folder.iterdir()} == names


def test_an_interrupted_run_is_marked(tmp_path: Path, record: RunRecord) -> None:
    write_run(tmp_path, replace(record, complete=False), config={}, meta={}, texts=None, prompts=None)
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is False
    assert not read_run(tmp_path).complete


def test_a_write_that_breaks_off_leaves_no_run(
    folder: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "chrome_trace", full_disk)
    with pytest.raises(UserError, match="cannot write the run: No space left on device"):
        write_run(folder, record, config=CONFIG, meta=META, texts=None, prompts=None)
    with pytest.raises(UserError, match="no run here"):
        read_run(folder)
    assert not list(folder.glob(".*.tmp"))


def test_a_contradiction_is_refused_before_anything_is_written(tmp_path: Path, record: RunRecord) -> None:
    wrong = replace(record, rounds=rounds(*list(record.rounds)[1:]))
    with pytest.raises(IdentityError):
        write_run(tmp_path / "new", wrong, config={}, meta={}, texts=None, prompts=None)
    assert not (tmp_path / "new").exists()


def test_a_lost_request_is_refused_before_anything_is_written(tmp_path: Path, record: RunRecord) -> None:
    served = [request.request_id for request in record.requests]
    with pytest.raises(IdentityError, match="lost: in the trace or in the record, but not in both"):
        write_run(
            tmp_path / "run", record, config={}, meta={}, texts=None, prompts=None,
            expected_request_ids=[*served, "lost"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_goodput_is_stored_with_its_limits(tmp_path: Path, record: RunRecord) -> None:
    write_run(tmp_path, record, config={}, meta={}, texts=None, prompts=None, slo_ms={"ttft": 2000.0})
    summary = read_run(tmp_path).summary
    assert (summary["request_goodput"], summary["slo_ms"]) == (0.05, {"ttft": 2000.0})


def test_chrome_trace_names_lanes_and_counts_in_microseconds(folder: Path) -> None:
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(lanes.values()) == ["target", "d1", "d2", "host"]
    verify = next(event for event in events if event["name"] == "verify")
    assert (verify["ph"], lanes[verify["tid"]], verify["ts"], verify["dur"]) == ("X", "target", 6e6, 2e6)
    assert verify["args"] == {
        "round": 0, "requests": ["a", "b"], "tokens": 3, "useful_cells": 60, "padded_cells": 20,
        "query_tokens": 10, "key_tokens": 16, "peak_key_tokens": 12, "used_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["requests.parquet", "rounds.parquet", "spans.parquet", "meta.json", "config.yaml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing") as error:
        read_run(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["requests.parquet", "rounds.parquet", "spans.parquet"])
@pytest.mark.parametrize("kept_bytes", [0, 10, 400])
def test_a_truncated_table_is_named(folder: Path, name: str, kept_bytes: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=f"{name}: damaged or truncated") as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def test_other_damage_is_named(folder: Path) -> None:
    pd.DataFrame({"round_index": [1]}).to_parquet(folder / "rounds.parquet")
    with pytest.raises(UserError, match=r"rounds\.parquet: column 'request_id' is missing"):
        read_run(folder)
    (folder / "config.yaml").write_text("a: [1")
    (folder / "meta.json").write_text('{"format": 1,')
    with pytest.raises(UserError, match=r"meta\.json: not valid JSON"):
        read_run(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "written in format 2, this version reads up to 1"),
        ({"format": None}, "'format' is None"),
        ({"drafters": ...}, "'drafters' is missing"),
    ],
)
def test_a_foreign_format_is_refused(folder: Path, change: dict, said: str) -> None:
    meta = {**json.loads((folder / "meta.json").read_text()), **change}
    (folder / "meta.json").write_text(json.dumps({key: value for key, value in meta.items() if value is not ...}))
    with pytest.raises(UserError, match=said):
        read_run(folder)


def test_runs_are_found_below_a_folder(tmp_path: Path, record: RunRecord) -> None:
    for name in ("b/1", "a"):
        write_run(tmp_path / name, record, config={}, meta={}, texts=None, prompts=None)
    (tmp_path / "half").mkdir()
    assert find_runs([tmp_path, tmp_path / "a"]) == [tmp_path / "a", tmp_path / "b" / "1"]
    with pytest.raises(UserError, match="no run here or below"):
        find_runs([tmp_path / "half"])
    with pytest.raises(UserError, match="no such folder"):
        find_runs([tmp_path / "nowhere"])
