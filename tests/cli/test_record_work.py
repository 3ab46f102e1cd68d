from pathlib import Path

import numpy as np
import pytest

from spinbench.cli.record.work import RecordWork, digest
from spinbench.errors import UserError


def test_a_stage_comes_back_until_the_work_is_removed(tmp_path: Path) -> None:
    work = RecordWork(tmp_path)
    assert not work.has_stages
    assert work.load("texts-1") is None
    work.save("texts-1", {"a": np.array([1, 2], np.int32), "b": np.array([True])})
    again = RecordWork(tmp_path).load("texts-1")
    assert again is not None
    assert (again["a"].tolist(), again["a"].dtype, again["b"].tolist()) == ([1, 2], np.int32, [True])
    assert work.has_stages
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["texts-1.npz"]
    work.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"PK", b"PK\x03\x04" + b"0" * 50, b"nothing"])
def test_a_damaged_stage_is_none(tmp_path: Path, damage: bytes) -> None:
    work = RecordWork(tmp_path)
    work.save("drafter-1", {"a": np.arange(1000)})
    path = tmp_path / "work" / "drafter-1.npz"
    whole = path.read_bytes()
    for content in (damage, whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
        path.write_bytes(content)
        assert work.load("drafter-1") is None


def test_other_inputs_have_other_names() -> None:
    tokens = np.array([1, 2, 3])
    names = {
        digest("sha", tokens),
        digest("sha", tokens[:2]),
        digest("sha", tokens.astype(np.int32)),
        digest("other", tokens),
        digest("sha", [1, 2, 3]),
        digest("sha", tokens, None),
    }
    assert len(names) == 6
    assert digest("sha", {"a": 1, "b": 2}, tokens) == digest("sha", {"b": 2, "a": 1}, tokens.copy())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RecordWork(tmp_path / "file").save("a", {})
