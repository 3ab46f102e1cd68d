"""Sweeps under submitit (its local executor) and on a local Ray cluster give the table of a serial one."""

import sys
import time
from pathlib import Path

import pytest

from spinbench.cli.main import main
from spinbench.sweep.folder import SweepFolder
from spinbench.sweep.launcher.slurm import SlurmOptions, run_slurm
from spinbench.sweep.launcher.supervise import Job
from spinbench.sweep.point import SweepPoint
from tests.cli.test_sweep import given, setup  # noqa: F401

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("setup")]
SWEEP = ["replay", "-m", *given(), "keep=summary", "seed=0,1", "drafting.num_speculative_tokens=1,2,4"]


def table(launcher: str, *overrides: str) -> bytes:
    assert main([*SWEEP, f"hydra.sweep.dir={launcher}", f"launcher={launcher}", *overrides]) == 0
    return Path(launcher, "points.parquet").read_bytes()


def test_submitit(setup: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    pytest.importorskip("submitit")
    assert table("slurm", "launcher.cluster=local", "launcher.workers=2") == table("serial")
    # processes that have our stderr would say it there
    assert "Traceback" not in capfd.readouterr().err


def test_submitit_ends_workers_in_silence(setup: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    pytest.importorskip("submitit")
    options = SlurmOptions("local", 2, None, 10, 1, None, 0, {})
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    folder = SweepFolder(setup / "stopped")
    point = SweepPoint("0" * 64, "p0", {}, {}, ())
    folder.add([point])
    looks = []

    def interrupt(done: int, failed: int) -> None:
        looks.append(done)
        if len(looks) > 3:
            raise KeyboardInterrupt

    job = Job(folder, folder.begin([point], {}, 1, {}), lambda first, waits: sleeping, {}, interrupt)
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_slurm(job, options)
    assert time.monotonic() - start_s < 30
    time.sleep(3)  # a controller that was interrupted would take a second to say so
    assert "Traceback" not in capfd.readouterr().err


def test_ray(setup: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    assert table("ray", "launcher.workers=2", "launcher.cpus_per_worker=0.5") == table("serial")


def test_without_the_extra_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    for launcher, extra in (("slurm", "slurm"), ("ray", "ray")):
        assert main([*SWEEP, f"hydra.sweep.dir={launcher}", f"launcher={launcher}"]) == 2
        assert f"pip install 'spinbench[{extra}]'" in capsys.readouterr().err
