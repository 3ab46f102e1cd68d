"""Finished runs are sent to a tracker: each once, with metrics, config and files; what a tracker does is tested offline."""

import json
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.report.sink.protocol import FinishedRun, flat_metrics
from tests.cli.conftest import CommandLine

SIMULATION = ("replay", "engine=simulation", "trace.num_prompts=2", "trace.max_output_tokens=8", "selector=plain")


class Recorder:
    """Stands in for MLflow: keeps what it is sent, and may refuse."""

    def __init__(self) -> None:
        self.sent: list[FinishedRun] = []
        self.refuses_after = 99

    def __call__(self, experiment: str, tracking_uri: str | None) -> "Recorder":
        assert (experiment, tracking_uri) == ("mine", None)
        return self

    def send(self, run: FinishedRun) -> None:
        if len(self.sent) == self.refuses_after:
            raise UserError("sink=mlflow: no answer")
        self.sent.append(run)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr("spinbench.cli.config.sink.MlflowSink", made)
    return made


def test_a_run_is_sent_when_it_is_in_its_folder(spinbench: CommandLine, recorder: Recorder) -> None:
    done = spinbench(*SIMULATION, "sink=mlflow", "sink.experiment=mine", "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    (run,) = recorder.sent
    summary = json.loads(Path("run/summary.json").read_text())
    assert run.metrics["output_throughput"] == summary["output_throughput"]
    assert run.metrics["lane_occupancy.target"] == summary["lane_occupancy"]["target"]
    assert run.config["trace"]["num_prompts"] == 2
    assert "sink" not in run.config
    assert (run.name, run.method) == ("run", "plain")
    assert {path.name for path in run.files} > {"summary.json", "config.yaml", "requests.parquet"}


def test_points_of_a_sweep_are_sent_once_each(spinbench: CommandLine, recorder: Recorder) -> None:
    sweep = (
        *SIMULATION,
        "-m",
        "seed=0,1,2",
        "keep=summary",
        "hydra.sweep.dir=sweep",
        "sink=mlflow",
        "sink.experiment=mine",
    )
    recorder.refuses_after = 1
    refused = spinbench(*sweep)
    assert refused.code == 2
    assert refused.err == "error: sink=mlflow: no answer (1 of 3 points are sent; the same command sends the rest)\n"
    recorder.refuses_after = 99
    assert spinbench(*sweep).code == 0
    assert spinbench(*sweep, "seed=0,1,2,3").code == 0
    assert sorted(run.config["seed"] for run in recorder.sent) == [0, 1, 2, 3]


def test_a_missing_package_is_one_line_before_anything_runs(
    spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinbench.report.sink.protocol.find_spec", lambda name: None)
    for arguments in (["sink=wandb", "hydra.run.dir=run"], ["-m", "seed=0,1", "sink=mlflow", "hydra.sweep.dir=run"]):
        refused = spinbench(*SIMULATION, *arguments)
        assert refused.code == 2
        assert refused.err.count("\n") == 1
        assert "pip install 'spinbench[" in refused.err
        assert not Path("run").exists()


def test_numbers_of_a_summary() -> None:
    summary = {"complete": True, "a": 1, "b": None, "of": {"x+y": 2.5, "z": None}, "per": [0.5, 0.25], "text": "no"}
    assert flat_metrics(summary) == {"complete": 1.0, "a": 1.0, "of.x+y": 2.5, "per.1": 0.5, "per.2": 0.25}


def test_mlflow(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the client alone has no database
    store = f"file://{Path.cwd() / 'store'}"
    done = spinbench(*SIMULATION, "sink=mlflow", f"sink.tracking_uri={store}", "hydra.run.dir=run")
    assert (done.code, done.err) == (0, "")
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("spinbench")
    (run,) = client.search_runs([experiment.experiment_id])
    summary = json.loads(Path("run/summary.json").read_text())
    assert run.data.metrics["output_throughput"] == summary["output_throughput"]
    assert run.data.params["scheduler.max_num_seqs"] == "8"
    assert run.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        path.name for path in Path("run").iterdir()
    }

    refused = spinbench(*SIMULATION, "sink=mlflow", "sink.tracking_uri=nosuch://x", "hydra.run.dir=other")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "nosuch" in refused.err
    assert Path("other/summary.json").is_file()


def test_wandb_offline(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = spinbench(*SIMULATION, "sink=wandb", "sink.project=mine", "hydra.run.dir=run")
    assert done.code == 0, done.err
    (offline,) = Path("wandb").glob("offline-run-*")
    assert len(list(offline.glob("*.wandb"))) == 1
    kept = {path.name for path in (offline / "files").iterdir()}
    assert kept >= {path.name for path in Path("run").iterdir()}
