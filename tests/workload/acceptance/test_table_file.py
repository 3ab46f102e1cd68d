"""A table comes back as it was, and what is not that table is refused in one line."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinbench.cli.locations import shipped_folder
from spinbench.errors import UserError
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_file import bytes_per_token, content_sha256, read_table, write_table
from tests.workload.acceptance.made_table import made_table

RANKS = {"good": [[0, 0, 3], [0, 1]], "org/poor.v1": [[4, 0, 0], [0, 255]]}


def table() -> AcceptanceTable:
    return made_table(RANKS, categories=["code", None], stopped=[False, True], token_ids=[[4, 5, 4], [5, 1]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "table", table())
    return tmp_path / "table"


def test_a_table_comes_back(folder):
    before, after = table(), read_table(folder)
    assert after.meta == before.meta
    assert after.folder == folder
    for name in ("ids", "categories"):
        assert getattr(after.requests, name) == getattr(before.requests, name)
    for name in ("prompt_tokens", "max_new_tokens", "stopped", "ignores_eos", "seeds", "offsets"):
        assert getattr(after.requests, name).tolist() == getattr(before.requests, name).tolist()
    for name in ("token_ids", "match_order", "lookup_run"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    for drafter in RANKS:
        for score in ("rank", "probability", "top_probability"):
            np.testing.assert_array_equal(getattr(after.column(drafter), score), getattr(before.column(drafter), score))
    assert content_sha256(after) == content_sha256(before)


def test_rollouts_come_back_and_a_table_without_is_as_it_always_was(tmp_path, folder):
    plain = json.loads((folder / "meta.json").read_text())
    assert plain["format"] == 1
    assert all("rollout_tokens" not in drafter for drafter in plain["drafters"])
    before = made_table(RANKS, rollout_tokens=3)
    write_table(tmp_path / "rollouts", before)
    after = read_table(tmp_path / "rollouts")
    assert json.loads((tmp_path / "rollouts" / "meta.json").read_text())["format"] == 2
    assert after.meta == before.meta
    for drafter in RANKS:
        np.testing.assert_array_equal(after.column(drafter).confidence(3), before.column(drafter).confidence(3))
    positions = pd.read_parquet(tmp_path / "rollouts" / "positions.parquet")
    assert [name for name in map(str, positions) if name.startswith("top_probability") and "good" in name] == [
        "top_probability:good", "top_probability_2:good", "top_probability_3:good",
    ]  # fmt: skip
    rollout = before.columns["good"].rollout
    assert rollout is not None
    one_less = replace(before.columns["good"], rollout=rollout[::-1])
    assert content_sha256(replace(before, columns={**before.columns, "good": one_less})) != content_sha256(before)


def test_how_far_copies_agree_comes_back_and_an_older_table_is_read_without(tmp_path, folder):
    before = made_table(RANKS, lookup_agreed=True)
    write_table(tmp_path / "agreed", before)
    after = read_table(tmp_path / "agreed")
    assert json.loads((tmp_path / "agreed" / "meta.json").read_text())["format"] == 3
    assert after.meta == before.meta
    np.testing.assert_array_equal(after.lookup_agreed, before.lookup_agreed)
    assert before.lookup_agreed is not None
    changed = replace(before, lookup_agreed=before.lookup_agreed // 2)
    assert content_sha256(changed) != content_sha256(before)
    assert read_table(folder).lookup_agreed is None
    assert "lookup_agreed" not in json.loads((folder / "meta.json").read_text())


def test_how_far_copies_agree_with_an_ngram_table_comes_back(tmp_path):
    before = made_table(RANKS, lookup_agreed=True)
    name, *others = before.columns
    agreed = np.arange(before.requests.num_positions, dtype=np.uint8)
    drafters = tuple(
        drafter.model_copy(update={"copy_agreed": drafter.name == name}) for drafter in before.meta.drafters
    )
    before = replace(
        before,
        meta=before.meta.model_copy(update={"drafters": drafters}),
        columns={**before.columns, name: replace(before.columns[name], copy_agreed=agreed)},
    )
    write_table(tmp_path / "agreed", before)
    after = read_table(tmp_path / "agreed")
    assert json.loads((tmp_path / "agreed" / "meta.json").read_text())["format"] == 4
    assert after.meta == before.meta
    np.testing.assert_array_equal(after.columns[name].copy_agreed, agreed)
    assert all(after.columns[other].copy_agreed is None for other in others)
    changed = replace(before.columns[name], copy_agreed=agreed[::-1])
    assert content_sha256(replace(before, columns={**before.columns, name: changed})) != content_sha256(before)


def test_the_shipped_table_has_the_digest_that_it_was_written_with():
    table = read_table(shipped_folder("traces") / "acceptance" / "mixed-smollm2-bfloat16")
    assert table.num_rollout_tokens(list(table.columns)) >= 1


def test_pandas_reads_it(folder):
    positions = pd.read_parquet(folder / "positions.parquet")
    requests = pd.read_parquet(folder / "requests.parquet")
    assert positions["rank:org/poor.v1"].tolist() == [4, 0, 0, 0, 255]
    assert positions["token_id"].tolist() == [4, 5, 4, 5, 1]
    assert requests["request_id"].tolist() == ["r0", "r1"]
    assert requests["output_tokens"].sum() == len(positions)


def test_only_three_files_are_left(folder):
    write_table(folder, table())
    assert sorted(path.name for path in folder.iterdir()) == ["meta.json", "positions.parquet", "requests.parquet"]


def test_ids_and_ranks_take_about_a_byte_per_drafter_and_four(tmp_path):
    rng = np.random.default_rng(0)
    ranks = {str(d): [np.minimum(rng.geometric(0.5, 20_000) - 1, 255).tolist()] for d in range(5)}
    tokens = np.minimum(rng.zipf(1.3, 20_000), 49_000)
    write_table(tmp_path, made_table(ranks, token_ids=[tokens.tolist()]))
    lean, all_columns = bytes_per_token(tmp_path)
    assert lean <= 5 + 4
    assert lean < all_columns <= 3 * 5 + 8


def _rewrite_meta(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    meta.update(changes)
    meta = {key: value for key, value in meta.items() if value is not ...}
    (folder / "meta.json").write_text(json.dumps(meta))


def _rewrite_positions(folder: Path, change: Callable[[pa.Table], pa.Table], name: str = "positions.parquet") -> None:
    """Change a file together with its digest, as a careless tool would."""
    pq.write_table(change(pq.read_table(folder / name)), folder / name)
    files = json.loads((folder / "meta.json").read_text())["files"]
    files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    _rewrite_meta(folder, files=files)


def _truncate(folder: Path) -> None:
    data = (folder / "positions.parquet").read_bytes()
    (folder / "positions.parquet").write_bytes(data[: len(data) // 2])


def _foreign(folder: Path) -> None:
    write_table(folder.parent / "other", made_table({"good": [[1, 1]]}))
    shutil.copy(folder.parent / "other" / "requests.parquet", folder / "requests.parquet")


def _set(name: str, values: list) -> Callable[[pa.Table], pa.Table]:
    def change(content: pa.Table) -> pa.Table:
        return content.set_column(content.column_names.index(name), name, pa.array(values))

    return change


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no rollouts": (
        lambda f: _rewrite_meta(
            f, drafters=[{**d, "rollout_tokens": 2} for d in json.loads((f / "meta.json").read_text())["drafters"]]
        ),
        "column 'top_probability_2:good' is missing",
    ),
    "no meta": (lambda f: (f / "meta.json").unlink(), "no acceptance table here"),
    "no positions": (lambda f: (f / "positions.parquet").unlink(), "positions.parquet: missing"),
    "no requests": (lambda f: (f / "requests.parquet").unlink(), "requests.parquet: missing"),
    "truncated": (_truncate, "positions.parquet: damaged, truncated or of another table"),
    "foreign": (_foreign, "requests.parquet: damaged, truncated or of another table"),
    "no JSON": (lambda f: (f / "meta.json").write_text("{"), "meta.json: not valid JSON"),
    "no UTF-8": (lambda f: (f / "meta.json").write_bytes(b"\xff"), "meta.json: not valid JSON"),
    "a run's meta": (lambda f: _rewrite_meta(f, kind=...), "not of an acceptance table"),
    "a list": (lambda f: (f / "meta.json").write_text("[1]"), "meta.json: expected a JSON object, found list"),
    "future": (
        lambda f: _rewrite_meta(f, format=5),
        "written in format 5, this version reads up to 4: update spinbench",
    ),
    "no format": (lambda f: _rewrite_meta(f, format="one"), "key 'format' is 'one', expected 1 to 4"),
    "no digest": (lambda f: _rewrite_meta(f, files={}), "damaged, truncated or of another table"),
    "key missing": (lambda f: _rewrite_meta(f, target=...), "meta.json: target: field required"),
    "key unknown": (lambda f: _rewrite_meta(f, targets=1), "meta.json: targets: extra inputs are not permitted"),
    "key wrong": (lambda f: _rewrite_meta(f, dtype=32), "meta.json: dtype: input should be a valid string"),
    "other origin": (
        lambda f: _rewrite_meta(f, trace={"name": "trace", "sha256": "c" * 64}),
        "the digest of the content is another",
    ),
    "count": (lambda f: _rewrite_meta(f, num_positions=6), "num_requests and num_positions do not fit"),
    "column missing": (
        lambda f: _rewrite_positions(f, lambda content: content.drop_columns(["rank:good"])),
        "positions.parquet: column 'rank:good' is missing",
    ),
    "no such drafter": (
        lambda f: _rewrite_meta(
            f, drafters=[{"name": "new", "sha256": "0" * 64, "kind": "model", "macs_per_token": 1}]
        ),
        "column 'rank:new' is missing",
    ),
    "NaN": (
        lambda f: _rewrite_positions(f, _set("probability:good", [0.5, float("nan"), 1.0, 1.0, 1.0])),
        "column 'probability:good' is double, it must be uint8",
    ),
    "null": (
        lambda f: _rewrite_positions(f, _set("token_id", pa.array([4, None, 4, 5, 1], pa.int32()).to_pylist())),
        "column 'token_id' is int64, it must be int32",
    ),
    "null ids": (
        lambda f: _rewrite_positions(f, _set("request_id", ["r0", None]), "requests.parquet"),
        "column 'request_id' has empty places",
    ),
    "row missing": (
        lambda f: _rewrite_positions(f, lambda content: content.slice(0, 4)),
        "positions.parquet: has 4 rows, but the output_tokens of requests.parquet make 5",
    ),
    "rank changed": (
        lambda f: _rewrite_positions(f, _set("rank:good", pa.array([0, 0, 0, 0, 0], pa.uint8()))),
        "the digest of the content is another",
    ),
    "order": (
        lambda f: _rewrite_positions(f, _set("match_order", pa.array([0, 4, 0, 0, 0], pa.uint8()))),
        "match_order is above 3",
    ),
    "twice": (
        lambda f: _rewrite_positions(f, _set("request_id", ["r0", "r0"]), "requests.parquet"),
        "a request_id stands there twice",
    ),
    "no token": (
        lambda f: _rewrite_positions(f, _set("output_tokens", [5, 0]), "requests.parquet"),
        "an output_tokens is below 1 or above max_new_tokens",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused_in_one_line(folder, damage):
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        read_table(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the acceptance table"):
        write_table(tmp_path / "file" / "table", table())
