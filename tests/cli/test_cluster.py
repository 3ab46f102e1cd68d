"""Sweeps under submitit (its local executor) and on a local Ray cluster give the table of a serial one."""

from pathlib import Path

import pytest

from spinbench.cli.main import main
from tests.cli.test_sweep import given, setup  # noqa: F401

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("setup")]
SWEEP = ["replay", "-m", *given(), "keep=summary", "seed=0,1", "drafting.num_speculative_tokens=1,2,4"]


def table(launcher: str, *overrides: str) -> bytes:
    assert main([*SWEEP, f"hydra.sweep.dir={launcher}", f"launcher={launcher}", *overrides]) == 0
    return Path(launcher, "points.parquet").read_bytes()


def test_submitit(setup: Path) -> None:  # noqa: F811
    pytest.importorskip("submitit")
    assert table("slurm", "launcher.cluster=local", "launcher.workers=2") == table("serial")


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
