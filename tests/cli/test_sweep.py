"""Sweeps of simulated points: killed and gone on with, failed and tried again, looked at."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from spinbench.cli.config.replay import ReplayConfig, parse_config, resolved
from spinbench.cli.hydra_app.app import sweep_points
from spinbench.cli.hydra_app.composer import compose_sweep
from spinbench.cli.hydra_app.override_text import with_overrides
from spinbench.cli.hydra_app.session import hydra_session, parse_arguments
from spinbench.cli.locations import PACKAGE
from spinbench.cli.main import main
from spinbench.cli.sweep.points import PointKeys
from spinbench.errors import UserError
from spinbench.report.section import load_sections
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.status import sweep_status
from tests.cli.test_replay import CommandLine
from tests.simulation.small_setup import CHOICES, DRAFTERS, VALUES, write_setup

DEADLINE_S = 120
SLOW = """
import os
import time
from spinbench.control.selector.random import RandomSelector


class SlowSelector(RandomSelector):
    def choose(self, context):
        time.sleep(float(os.environ.get("SLOW_S", "0")))
        return super().choose(context)
"""


def given(**values: object) -> list[str]:
    known = {**CHOICES, **VALUES, "models.drafters": f"[{','.join(DRAFTERS)}]", **values}
    return [f"{key}={value}" for key, value in known.items()]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_setup(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def num_done(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*/point.json"))


def wait_until_done(folder: Path, count: int, process: subprocess.Popen) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while num_done(folder) < count:
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_sweep_that_is_killed_again_and_again_gives_the_same_table(setup: Path) -> None:
    sweep = [
        "replay", "-m", *given(selector="random"), "selector._target_=slow.SlowSelector", "seed=0,1,2",
        "scheduler.max_num_seqs=2,3", "drafting.num_speculative_tokens=2,4", "keep=summary",
    ]  # fmt: skip
    killed = [*sweep, "hydra.sweep.dir=killed", "launcher=processes", "launcher.workers=2"]
    slow = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "SLOW_S": "0.0015", "PYTHONHASHSEED": "1"}
    process = subprocess.Popen([sys.executable, "-m", "spinbench", *killed], stdout=subprocess.DEVNULL, env=slow)
    wait_until_done(setup / "killed", 2, process)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    workers[0].kill()
    wait_until_done(setup / "killed", 4, process)
    now = psutil.Process(process.pid).children()
    assert len(set(now) - set(workers)) == 1, "it was not replaced"
    process.kill()
    process.wait()
    before = num_done(setup / "killed")
    assert before < 12
    # a worker may still be at its last point, while the same command goes on, here with another launcher
    assert main([*sweep, "hydra.sweep.dir=killed"]) == 0
    assert main([*sweep, "hydra.sweep.dir=undisturbed"]) == 0
    tables = [(setup / name / "points.parquet").read_bytes() for name in ("killed", "undisturbed")]
    assert tables[0] == tables[1]
    assert len(pd.read_parquet(setup / "killed" / "points.parquet")) == 12


def test_what_failed_is_tried_again_on_request(setup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["replay", "-m", *given(), "kv.num_blocks=1,400", "hydra.sweep.dir=sweep", "seed=0,1"]
    assert main(sweep) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1, "one line for one kind"
    assert err.startswith("failed: 2 points: UserError: ")
    assert "kv.num_blocks=1" in err
    assert "4 points: 2 done, 2 failed; table in sweep/points.parquet" in out
    failures = list(Path("sweep").glob("*/failure.json"))
    assert [json.loads(path.read_text())["attempts"] for path in failures] == [1, 1]
    before = {path: path.stat().st_mtime_ns for path in Path("sweep").glob("*/*.json")}
    assert main(sweep) == 1
    assert before == {path: path.stat().st_mtime_ns for path in Path("sweep").glob("*/*.json")}
    assert main([*sweep, "sweep.retry_failed=true"]) == 1
    assert all(before[path] != path.stat().st_mtime_ns for path in failures)
    capsys.readouterr()
    assert main(["sweep", "status", "sweep"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "sweep: 4 points: 2 done, 2 failed, 0 running, 0 missing"
    assert shown[1].startswith("failed: 2 points: UserError: ")
    assert Path(shown[2].removeprefix("  at length: ")) in failures
    assert shown[3:] == ["to try failed points again, give their command with sweep.retry_failed=true"]
    assert main(["sweep", "table", "sweep", "--metrics", "completed", "--limit", "1"]) == 0
    head, row = capsys.readouterr().out.splitlines()[:2]
    assert head.split("\t") == ["status", "failure", "kv.num_blocks", "seed", "completed"]
    assert row.split("\t")[0] == "done"
    assert row.split("\t")[4] == "16"
    sections, interrupted = load_sections([Path("sweep")])
    assert ([len(section.runs) for section in sections], interrupted) == ([2], [])


def test_a_point_has_one_key_however_it_is_asked_for(setup: Path) -> None:
    (setup / "copy.jsonl").write_bytes((setup / "trace.jsonl").read_bytes())
    first = ["replay", "-m", *given(), "seed=0,1", "hydra.sweep.dir=sweep", "keep=summary"]
    assert main(first) == 0
    # other launcher, other order, another name of the same trace, what is kept: none changes what comes of it
    again = ["replay", "-m", "seed=1,0", *given(**{"trace.path": "copy.jsonl"}), "hydra.sweep.dir=sweep", "keep=tables"]
    assert main(again) == 0
    assert len(SweepFolder(Path("sweep")).points()) == 2
    # another content does, and takes the place of what is out of date
    lines = (setup / "trace.jsonl").read_text().splitlines()
    (setup / "trace.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert main(first) == 0
    assert sweep_status(SweepFolder(Path("sweep"))).done == 2
    assert len(list(Path("sweep").glob("*/point.json"))) == 4
    frame = pd.read_parquet("sweep/points.parquet")
    assert frame["num_prompts"].tolist() == [15, 15]


def test_auto_counts_as_the_number_format_that_it_means_here(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep_points("replay", ["engine=runtime", "engine.device=cpu", "engine.dtype=auto,bfloat16,float32"])
    points, keys = [*real, *sweep_points("replay", ["engine=simulation"])], PointKeys()

    def found(native: bool) -> list[str]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
        plain = [resolved(point.config) for point in points]
        return [
            keys.sweep_point(point, one, parse_config(one, ReplayConfig), "").key
            for point, one in zip(points, plain, strict=True)
        ]

    (auto, bfloat16, float32, simulated), elsewhere = found(True), found(False)
    assert auto == bfloat16 != float32
    assert elsewhere == [float32, bfloat16, float32, simulated]


@pytest.mark.parametrize(
    "values",
    [
        # of the points that set the same keys one config has values set anew
        ["drafting.num_speculative_tokens=[1,2],3", "models.drafters=[],[a]", "method='${folder_name:${trace.path}}',null",
         "trace.num_prompts=${repeat}", "seed=1", "repeat=4"],
        ["drafting.num_speculative_tokens=1,2", "seed=1,2", "repeat=4,5", "trace.path=a/b"],
        # keys that are added, deleted, merged or lie in one another: on a config of its own
        ["+noted=a,b", "~kv.block_size", "++scheduler={max_num_seqs: 3}", "scheduler.max_num_seqs=2,4", "trace.path=a/b",
         "trace.num_prompts=${repeat}", "repeat=4,5"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("subdir", [None, "hydra.sweep.subdir='${hydra.job.num}-${repeat}${hydra:job.id}'"])
def test_points_are_composed_as_hydra_does(setup: Path, values: list[str], subdir: str | None) -> None:
    arguments = [
        *with_overrides(given(selector="random,spin", arrivals="poisson"), values), "experiment=demo",
        "pipeline=micro_batches", "arrivals.request_rate=1", "hydra.sweep.dir=here", *([subdir] if subdir else ()),
    ]  # fmt: skip
    with hydra_session("replay", parse_arguments("replay", arguments)) as hydra:
        master = hydra.compose_config("replay", arguments, RunMode.MULTIRUN)
        HydraConfig.instance().set_config(master)
        points = compose_sweep(hydra, master, OmegaConf.to_container(master.hydra.overrides.task, resolve=False))
        assert len(points) == 16
        for number, point in enumerate(points[::5]):
            whole = hydra.config_loader.load_sweep_config(master, list(point.overrides))
            with open_dict(whole):
                whole.hydra.job.id = whole.hydra.job.num = 5 * number
            HydraConfig.instance().set_config(whole)
            assert point.choices == dict(whole.hydra.runtime.choices)
            assert point.folder == Path(str(whole.hydra.sweep.dir)) / str(whole.hydra.sweep.subdir)
            with open_dict(whole):
                del whole["hydra"]
            # as text, in which the order of keys counts
            assert json.dumps(point.config) == json.dumps(OmegaConf.to_container(whole, resolve=True))
    assert len(sweep_points("replay", arguments)) == 16


def test_what_cannot_be_resolved_says_so_when_it_is_asked_for() -> None:
    first, second = sweep_points("replay", ["trace.num_prompts=${nothing},3"])
    with pytest.raises(UserError, match="nothing"):
        resolved(first.config)
    assert resolved(second.config)["trace"]["num_prompts"] == 3
    assert resolved(sweep_points("replay", ["trace.num_prompts=3"])[0].config) == resolved(second.config)


def test_folders_are_named_by_the_values_of_their_points(setup: Path) -> None:
    named = "hydra.sweep.subdir='${seed}-${drafting.num_speculative_tokens}-${folder_name:${trace.path}}'"
    points = sweep_points("replay", ["trace.path=a/b,c", "seed=1,2", "hydra.sweep.dir=here", named])
    assert [str(point.folder) for point in points] == ["here/1-4-a_b", "here/2-4-a_b", "here/1-4-c", "here/2-4-c"]


def test_a_sweep_of_other_launchers_is_refused(setup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["replay", "-m", *given(), "seed=0,1", "+hydra.launcher.n_jobs=2", "hydra.launcher._target_=a.Joblib"])
        == 2
    )
    assert "set launcher=serial, processes, slurm or ray" in capsys.readouterr().err


def status_of(path: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["sweep", "status", path]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_status_of_a_half_done_sweep_says_how_to_go_on(setup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["replay", "-m", *given(**{"trace.num_prompts": 2}), "seed=0,1", "keep=summary", "hydra.sweep.dir=sweep"]
    assert main(sweep) == 0
    assert status_of("sweep", capsys) == [
        "sweep: 2 points: 2 done, 0 failed, 0 running, 0 missing",
        "its points: spinbench sweep table sweep; compared: spinbench report sweep",
    ]
    lost = next(Path("sweep").glob("*seed=1*/point.json"))
    lost.unlink()
    assert status_of("sweep", capsys) == [
        "sweep: 2 points: 1 done, 0 failed, 0 running, 1 missing",
        "nobody is at the missing points now; to go on, give their command again",
        f"  {shlex.join(['spinbench', *sweep])}",
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "nowhere: no sweep here (no such folder)"),
        ("empty", "empty: no sweep here (sweep.json, which `spinbench replay -m` leaves, is missing)"),
        (".", ".: no sweep here (there is one in mine)"),
        ("mine/seed=0", "mine/seed=0: no sweep here (it is in a sweep's folder, mine)"),
        ("x/foreign", "x/foreign/sweep.json: has no list 'points', so it is not of a sweep of spinbench"),
        ("newer/mine", "newer/mine/sweep.json: key 'format' is 99, this version reads 1"),
        ("none/mine", "none/mine/sweep.json: key 'format' is None, this version reads 1"),
        ("half/mine", "half/mine/sweep.json: has no list 'points'"),
    ],
)
def test_no_sweep_is_one_line(spinbench: CommandLine, path: str, said: str) -> None:
    for name, content in (
        ("mine/sweep.json", {"format": 1, "points": []}), ("mine/seed=0/summary.json", {}), ("empty/x/y.json", {}),
        ("x/foreign/sweep.json", {"method": "bayes"}), ("newer/mine/sweep.json", {"format": 99, "points": []}),
        ("none/mine/sweep.json", {"points": []}), ("half/mine/sweep.json", {"format": 1}),
    ):  # fmt: skip
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(content))
    for action in ("status", "table"):
        outcome = spinbench("sweep", action, path)
        assert (outcome.code, outcome.err) == (2, f"error: {said}\n")
    assert not Path("nowhere").exists()
    assert spinbench("sweep", "count").code == 2
