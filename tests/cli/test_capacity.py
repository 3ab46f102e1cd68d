"""`spinbench capacity`: the files that it leaves, a search that is cut short, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spinbench.cli.capacity import runs as capacity_runs
from spinbench.cli.capacity.config import replay_config
from spinbench.cli.main import main
from spinbench.metrics.capacity import Load
from tests.cli.test_sweep import setup  # noqa: F401
from tests.simulation.small_setup import DRAFTERS

pytestmark = pytest.mark.usefixtures("setup")
GIVEN = [
    "capacity", "models=huggingface", "models.target=big-shape", f"models.drafters=[{','.join(DRAFTERS)}]",
    "engine.profile=profile", "engine.acceptance=synthetic", "engine.source=law.yaml", "trace.path=trace.jsonl",
    "selector=round_robin", "scheduler.max_num_seqs=2", "hydra.run.dir=found",
]  # fmt: skip
SLO = "slo='ttft:12 tpot:9'"


def test_it_finds_the_rate_and_keeps_the_curve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, SLO, "goal=0.9", "tolerance=0.5", "curve=[0.7]", "repeats=2"]) == 0
    said = capsys.readouterr().out
    found = json.loads(Path("found/capacity.json").read_text())
    assert f"{found['request_rate']:.4g} requests/s" in said
    assert 0 < found["request_rate"] < found["fails_at"] <= 2 * found["request_rate"] + 1e-9
    assert found["request_rate_std_error"] == pytest.approx(found["request_rate"] / 32**0.5)
    curve = pd.read_csv("found/capacity.csv")
    assert curve["request_rate"].is_monotonic_increasing
    assert curve["request_rate"].iloc[-1] == float("inf")
    finite = curve[curve["request_rate"] < float("inf")]
    assert set(finite["num_requests"]) == {32}, "two draws of 16"
    kept = finite[finite["request_rate"] <= found["request_rate"] * (1 + 1e-5)]
    assert kept["keeps_goal"].iloc[-1]
    assert ((finite["request_rate"] / found["request_rate"] - 0.7).abs() < 1e-4).any()
    assert len(found["points"]) == len(curve)
    assert found["points"][-1]["request_rate"] is None  # JSON knows no infinity
    assert Path("found/figures/capacity.png").is_file()
    # one point of the sweep for each draw, all of them done
    points = pd.read_parquet(Path("found") / "points.parquet")
    assert set(points["status"]) == {"done"}
    assert len(points) == 2 * len(finite) + 1
    command = json.loads(next(Path("found").glob("rate=*/meta.json")).read_text())["command"]
    assert command.startswith("spinbench replay engine=simulation")
    assert "arrivals=poisson" in command
    assert "curve" not in command


def test_it_goes_on_where_it_was_cut_short(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*GIVEN, SLO, "goal=0.9", "tolerance=0.6", "curve=[]"]
    load_at, asked = capacity_runs.CapacityRuns.load_at, []

    def cut_short(self: capacity_runs.CapacityRuns, rate_rps: float) -> Load:
        asked.append(rate_rps)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return load_at(self, rate_rps)

    with monkeypatch.context() as patch:
        patch.setattr(capacity_runs.CapacityRuns, "load_at", cut_short)
        assert main(command) == 2
    assert "the same command goes on" in capsys.readouterr().err
    assert not Path("found/capacity.json").exists()
    done = {path: path.stat().st_mtime_ns for path in Path("found").glob("*/point.json")}
    assert len(done) == 2
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done is not done again"
    answer = Path("found/capacity.csv").read_bytes()
    assert main([*command, "hydra.run.dir=anew"]) == 0
    assert Path("anew/capacity.csv").read_bytes() == answer


def test_more_replicas_serve_more() -> None:
    rates = []
    for replicas in (1, 2):
        folder = f"hydra.run.dir=with-{replicas}"
        assert main([*GIVEN, SLO, "goal=0.9", "tolerance=0.5", "curve=[]", f"replicas={replicas}", folder]) == 0
        rates.append(json.loads(Path(f"with-{replicas}/capacity.json").read_text())["request_rate"])
    assert rates[1] > 1.2 * rates[0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "slo is null; set the latency limits"),
        (["slo='ttft:0'"], "SLO 'ttft:0'"),
        ([SLO, "goal=1.2"], "goal"),
        ([SLO, "tolerance=0"], "tolerance"),
        ([SLO, "curve=[-1]"], "curve"),
        ([SLO, "arrivals=poisson"], "arrivals"),
        ([SLO, "router=nearest"], "router"),
        ([SLO, "engine=runtime"], "engine"),
        (["slo='ttft:0.001'", "trace.num_prompts=1"], "no rate reaches the goal"),
        (["slo='ttft:1000000'"], "even if all come at once"),
    ],
)
def test_what_has_no_answer_is_one_line(overrides: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, *overrides]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1, error
    assert not Path("found/capacity.json").exists()


def test_a_folder_holds_one_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GIVEN, "slo='ttft:1000000'"]) == 2
    capsys.readouterr()
    assert main([*GIVEN, SLO]) == 2
    assert "holds a search of another config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "draw", "shown"),
    [
        ({"burstiness": 0.5}, 0, {"burstiness": 0.5}),
        ({"seed": 3}, 0, {"seed": 3}),
        ({}, 2, {"seed": 2}),
        ({"goal": 0.5, "tolerance": 0.5, "curve": [2.0], "repeats": 9, "keep": "all"}, 0, {}),
    ],
)
def test_what_each_key_does_to_the_arrivals(changes: dict[str, Any], draw: int, shown: dict[str, Any]) -> None:
    plain = {"goal": 0.9, "tolerance": 0.1, "curve": [], "repeats": 1, "burstiness": 1.0, "seed": 0, "keep": "summary"}
    made = replay_config({**plain, **changes}, 2.5, draw)
    arrivals = {"kind": "gamma", "request_rate": 2.5, "burstiness": 1.0, "seed": 0, **shown}
    assert made == {"seed": changes.get("seed", 0), "arrivals": arrivals}
    assert replay_config(plain, float("inf"), draw)["arrivals"] == {"kind": "all_at_once"}
