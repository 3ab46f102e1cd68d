"""A point is done once, whoever takes it; what is half done or failed never counts as done."""

import json
import threading
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.sweep.folder import Session, SweepFolder
from spinbench.sweep.point import MAX_LABEL_BYTES, SweepPoint, folder_name, point_key
from spinbench.sweep.status import sweep_status
from spinbench.sweep.worker import ATTEMPT_FILE, do_point, forget_failure, work

CODE = {"files_sha256": "1"}


def made_point(number: int, code: str = "1") -> SweepPoint:
    config = {"seed": number, "selector": {"_target_": "a.B"}}
    key = point_key(config, {"files_sha256": code}, {})
    return SweepPoint(key, folder_name(f"seed={number}", key), config, {"selector": "plain"}, (f"seed={number}", "x=1"))


def begun(path: Path, count: int = 3, max_attempts: int = 2) -> tuple[SweepFolder, Session, list[SweepPoint]]:
    folder = SweepFolder(path / "sweep")
    points = folder.add(made_point(number) for number in range(count))
    return folder, folder.begin(points, CODE, max_attempts, {}), points


class Runs:
    """Counts how often each point is run; fails where it is told to."""

    def __init__(self, failing: tuple[int, ...] = ()) -> None:
        self.seeds: list[int] = []
        self.failing = failing

    def __call__(self, point: SweepPoint, folder: Path) -> dict[str, object]:
        seed = point.config["seed"]
        self.seeds.append(seed)
        (folder / "rounds.parquet").write_text("half a run")
        if seed in self.failing:
            raise UserError(f"trace.path is {seed}; no good")
        return {"output_throughput": seed / 3}


def test_points_are_done_once(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path)
    runs = Runs()
    work(folder, session, runs, first=1)
    work(folder, session, runs)
    assert runs.seeds == [1, 2, 0]
    assert all(map(folder.is_done, points))
    # the same points again, and one more
    again = folder.add([*points, made_point(3), made_point(3)])
    work(folder, folder.begin(again, CODE, 2, {}), runs)
    assert runs.seeds == [1, 2, 0, 3]


def test_workers_side_by_side_share_the_points(tmp_path: Path) -> None:
    folder, session, _ = begun(tmp_path, 30)
    runs = Runs()
    threads = [threading.Thread(target=work, args=(SweepFolder(folder.path), session, runs, 10 * n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(runs.seeds) == list(range(30))


def test_a_point_that_another_is_at_is_left_to_them(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 1)
    runs = Runs()
    with folder.lock(points[0]):
        assert folder.is_running(points[0])
        assert not do_point(folder, session, points[0], runs)
        work(folder, session, runs, waits=False)
    assert not folder.is_running(points[0])
    assert runs.seeds == []


def test_a_failure_is_written_down_and_tried_again_on_request_only(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path)
    runs = Runs(failing=(1,))
    work(folder, session, runs)
    work(folder, folder.begin(points, CODE, 2, {}), runs)
    assert runs.seeds == [0, 1, 2]
    failure = json.loads((folder.folder_of(points[1]) / "failure.json").read_text())
    assert (failure["type"], failure["about"], failure["message"]) == (
        "UserError",
        "trace.path",
        "trace.path is 1; no good",
    )
    status = sweep_status(folder)
    assert (status.done, status.failed, status.running, status.missing) == (2, 1, 0, 0)
    assert [(kind.count, kind.example) for kind in status.failures] == [(1, "seed=1")]
    forget_failure(folder, points[1])
    work(folder, folder.begin(points, CODE, 2, {}), Runs())
    assert sweep_status(folder).done == 3
    assert not (folder.folder_of(points[1]) / "failure.json").exists()


def test_a_defect_is_a_failure_with_its_traceback(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 2)

    def broken(point: SweepPoint, _: Path) -> dict[str, object]:
        return {"x": 1 // point.config["seed"]}

    work(folder, session, broken)
    failure = json.loads((folder.folder_of(points[0]) / "failure.json").read_text())
    assert failure["type"] == "ZeroDivisionError"
    assert "1 // point.config" in failure["traceback"]
    assert folder.is_done(points[1])


def test_who_dies_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 1)

    def dies(_: SweepPoint, path: Path) -> dict[str, object]:
        (path / "summary.json").write_text("{}")
        raise KeyboardInterrupt  # leaves as a killed process would, lock included

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work(folder, session, dies)
        assert sweep_status(folder).missing == 1
    # the third finds that two died of it; another command begins anew
    work(folder, session, dies)
    assert "2 workers died" in sweep_status(folder).failures[0].reason
    forget_failure(folder, points[0])
    work(folder, folder.begin(points, CODE, 2, {}), Runs())
    assert folder.is_done(points[0])
    assert sorted(path.name for path in folder.folder_of(points[0]).iterdir()) == ["point.json", "rounds.parquet"]


def test_who_dies_while_it_says_that_it_begins_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 1)
    own = folder.folder_of(points[0])
    own.mkdir()
    (own / f".{ATTEMPT_FILE}.4711.tmp").write_text("{")
    work(folder, session, Runs())
    assert folder.is_done(points[0])
    assert sorted(path.name for path in own.iterdir()) == ["point.json", "rounds.parquet"]


def test_files_of_others_are_not_removed(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 1)
    own = folder.folder_of(points[0])
    own.mkdir()
    (own / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        work(folder, session, Runs())
    assert [path.name for path in own.iterdir()] == ["thesis.tex"]
    assert ATTEMPT_FILE not in [path.name for path in own.iterdir()]


def test_other_code_takes_the_place_of_a_result(tmp_path: Path) -> None:
    folder, session, points = begun(tmp_path, 2)
    work(folder, session, Runs())
    renewed = folder.add([made_point(0, "2")])
    assert renewed[0].key != points[0].key
    assert set(folder.points()) == {renewed[0].key, points[1].key}
    assert sweep_status(folder).missing == 1


def test_a_name_is_cut_but_never_the_key() -> None:
    name = folder_name("x" * 300, "f" * 64)
    assert name == "x" * MAX_LABEL_BYTES + "-" + "f" * 12
    assert folder_name("", "f" * 64) == "f" * 12
