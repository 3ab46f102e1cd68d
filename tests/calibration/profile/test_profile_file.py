"""A profile's folder is read back as it was written, and everything wrong with one is told in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinbench.calibration.fitting.score import score_profile, write_scores
from spinbench.calibration.profile.meta import check_fits
from spinbench.calibration.profile.profile_file import Profile, profile_sha256, read_profile, write_profile
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.errors import UserError
from tests.calibration.made_profile import made_profile

TABLES = ("passes.csv", "jobs.csv", "host.csv")


@pytest.fixture(scope="module")
def profile() -> Profile:
    return made_profile()


@pytest.fixture
def folder(profile: Profile, tmp_path: Path) -> Path:
    write_profile(tmp_path / "p", profile)
    return tmp_path / "p"


def test_a_profile_comes_back(profile: Profile, folder: Path) -> None:
    found = read_profile(folder)
    assert found.meta == profile.meta
    for before, after in zip(profile.tables.passes, found.tables.passes, strict=True):
        assert before[0] == after[0]
        assert after[1].median_s == pytest.approx(before[1].median_s, abs=1e-9)
    assert [point for point, _ in found.tables.jobs] == [point for point, _ in profile.tables.jobs]
    assert [point for point, _ in found.tables.gaps] == [point for point, _ in profile.tables.gaps]
    assert not list(folder.glob(".*"))
    # written again, it is the same to the byte
    before = profile_sha256(folder)
    write_profile(folder, found)
    assert profile_sha256(folder) == before


def test_scores_are_a_table(profile: Profile, folder: Path) -> None:
    write_scores(folder, score_profile(profile))
    lines = (folder / "scores.csv").read_text().splitlines()
    assert lines[0] == "what,kind,lane,num_points,mape_percent,p90_percent,bias_percent,noise_percent,floor_percent"
    assert any(line.startswith("job,verify,target packed,") for line in lines)


def test_a_folder_that_cannot_be_written_is_named(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/p: cannot write the profile: Not a directory"):
        write_profile(tmp_path / "file" / "p", profile)
    with pytest.raises(UserError, match=r"file/scores\.csv: cannot be written: "):
        write_scores(tmp_path / "file", [])


def edit(folder: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join(change(lines)) + "\n")


def set_cell(column: str, value: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        place = lines[0].split(",").index(column)
        cells = lines[3].split(",")
        cells[place] = value
        return [*lines[:3], ",".join(cells), *lines[4:]]

    return change


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("median_s", "nan", "column 'median_s' is 'nan'; it must be a finite number of seconds above 0"),
        ("median_s", "-0.1", "column 'median_s' is '-0.1'; it must be a finite number of seconds above 0"),
        ("p90_s", "inf", "column 'p90_s' is 'inf'"),
        ("p10_s", "soon", "column 'p10_s' is 'soon'; it must be a number"),
        ("p10_s", "1e9", "are not in this order"),
        ("p10_s", "", "column 'p10_s' is ''; it must be a number"),
        ("mean_s", "0", "column 'mean_s' is '0'; it must be a finite number of seconds above 0"),
        ("repeats", "0", "column 'repeats' is 0; it must be at least 1"),
    ],
)
def test_a_wrong_timing_is_named(folder: Path, table: str, column: str, value: str, message: str) -> None:
    edit(folder, table, set_cell(column, value))
    with pytest.raises(UserError, match=message) as error:
        read_profile(folder)
    assert f"{table}:4: " in str(error.value)


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("passes.csv", "attention", "flash", "column 'attention' is 'flash'; it must be 'none' or 'packed'"),
        ("passes.csv", "role", "test", "column 'role' is 'test'; it must be 'fit' or 'held_out'"),
        ("passes.csv", "stop_tokens", "x", "column 'stop_tokens' is 'x'; it must be whole numbers"),
        ("passes.csv", "stop_tokens", "5 6", "1 start_tokens and 2 stop_tokens"),
        ("passes.csv", "start_tokens", "-1", "column 'start_tokens' holds a number below 0"),
        ("passes.csv", "num_head_rows", "99", "column 'num_head_rows' is 99"),
        ("passes.csv", "model", "large", "model 'large' is not among those of meta.yaml"),
        ("jobs.csv", "kind", "nap", "column 'kind' is 'nap'"),
        ("jobs.csv", "lane", "large", "lane 'large' is not among those of meta.yaml"),
        ("jobs.csv", "layout", "packed", "column 'layout' is 'packed'; it must be ''"),
        ("jobs.csv", "by_lookup", "1", "column 'by_lookup' has 1 numbers; a prefill job of this size has 0"),
        ("host.csv", "next_kind", "", "column 'next_kind' is ''"),
        ("host.csv", "num_requests", "0", "column 'num_requests' is 0"),
    ],
)
def test_a_wrong_point_is_named(folder: Path, table: str, column: str, value: str, message: str) -> None:
    edit(folder, table, set_cell(column, value))
    with pytest.raises(UserError, match=message) as error:
        read_profile(folder)
    assert f"{table}:4: " in str(error.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "rows, meta.yaml says"),
        (lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]], "columns; the file was cut|must be"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "the same point as in line 4"),
        (lambda lines: [lines[0].replace("median_s", "seconds"), *lines[1:]], ":1: column 'median_s' is missing"),
        (lambda lines: [], ":1: column '[a-z]+' is missing"),
    ],
)
def test_a_cut_or_edited_table_is_named(
    folder: Path, table: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    edit(folder, table, change)
    with pytest.raises(UserError, match=message) as error:
        read_profile(folder)
    assert table in str(error.value)


@pytest.mark.parametrize("name", [*TABLES, "meta.yaml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing"):
        read_profile(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_profile(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "written in format 99, this version reads up to 1: update spinbench"),
        ("format", 0, "meta.yaml: format: input should be"),
        ("dtype", "int8", "meta.yaml: dtype: input should be"),
        ("target", "large", "model 'large' is not among models"),
        ("colour", "red", "meta.yaml: colour: extra inputs are not permitted"),
        ("models", [], "is not among models"),
    ],
)
def test_a_wrong_meta_file_is_named(folder: Path, key: str, value: object, message: str) -> None:
    content = yaml.safe_load((folder / "meta.yaml").read_text())
    (folder / "meta.yaml").write_text(yaml.safe_dump(content | {key: value}))
    with pytest.raises(UserError, match=message) as error:
        read_profile(folder)
    assert "meta.yaml: " in str(error.value)


@pytest.mark.parametrize("text", ["{", "just words", "", "\x00"])
def test_what_is_no_meta_file(folder: Path, text: str) -> None:
    (folder / "meta.yaml").write_text(text)
    with pytest.raises(UserError, match=r"meta\.yaml: "):
        read_profile(folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from([*TABLES, "meta.yaml"]), st.data())
def test_any_damage_is_one_line_or_no_damage(folder: Path, profile: Profile, name: str, data: st.DataObject) -> None:
    write_profile(folder, profile)
    content = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)))
    (folder / name).write_bytes(content[:place] + junk + content[place + data.draw(st.integers(0, 40)) :])
    reason = complaint(folder)
    assert reason is None or (name in reason and "\n" not in reason)


def complaint(folder: Path) -> str | None:
    try:
        read_profile(folder)
    except UserError as error:
        return str(error)
    return None


def test_a_run_must_be_the_profiled_one(profile: Profile) -> None:
    def check(dtype: str = "float32", target: str = "target", name: str = "small", **sha256: str) -> None:
        kind = "lookup_then_model" if "+" in name else "model"
        check_fits(profile.meta, "p", dtype=dtype, target=target, drafters=[DrafterInfo(name, kind)], sha256=sha256)

    check(target="target", small="b" * 64)
    check(name="small+prompt_lookup")
    for message, arguments in (
        ("p: profiled in float32, the run is in bfloat16", {"dtype": "bfloat16"}),
        ("p: profiled with target 'target', the run's is 'other'", {"target": "other"}),
        ("p: the profile has no drafter 'large'; it has small", {"name": "large"}),
        ("p: drafter 'prompt_lookup' is a prompt_lookup in the profile, a model here", {"name": "prompt_lookup"}),
        ("p: small was profiled with weights bbbbbbbbbbbb, the run's are cccccccccccc", {"small": "c" * 64}),
    ):
        with pytest.raises(UserError, match=message):
            check(**arguments)


def test_room_for_kv_beside_the_weights(profile: Profile) -> None:
    # 0.9 x 1e9 bytes, less 400 + 80 of weights, at 100,000 + 20,000 bytes a token
    assert profile.meta.kv_capacity_tokens(["target", "small"]) == (900_000_000 - 480) // 120_000
    with pytest.raises(UserError, match=r"made up has 1\.0 GB, and the weights take"):
        profile.meta.kv_capacity_tokens(["target"], memory_utilization=1e-7)
