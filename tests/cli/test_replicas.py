"""Replicas on the command line: simulated ones leave the files of one, real ones are Ray actors."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spinbench.cli.engine.ray_replicas import require_room
from spinbench.cli.main import main
from spinbench.errors import UserError
from spinbench.metrics.store import read_run
from spinbench.report.section import load_sections
from tests.cli.conftest import CommandLine
from tests.cli.test_sweep import given, setup  # noqa: F401

SIMULATED = ["replay", *given(selector="spin"), "scheduler.max_num_seqs=2"]


@pytest.mark.usefixtures("setup")
def test_simulated_replicas_leave_the_files_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (1, 3):
        router = "router=least_outstanding_tokens"
        assert main([*SIMULATED, f"replicas={count}", router, "slo='ttft:20'", f"hydra.run.dir=on-{count}"]) == 0
    one, three = (read_run(Path(f"on-{count}")) for count in (1, 3))
    assert sorted(path.name for path in three.folder.iterdir()) == sorted(path.name for path in one.folder.iterdir())
    for name in ("requests", "rounds", "spans"):
        assert list(getattr(three, name)) == [*getattr(one, name), "replica"]
        assert set(getattr(three, name)["replica"]) == {0, 1, 2}
    assert (one.tables.num_replicas, three.tables.num_replicas) == (1, 3)
    assert not any("replica" in key for key in one.summary)
    assert set(three.meta) - set(one.meta) == {"replicas", "router"}
    assert (three.meta["replicas"], three.meta["router"]) == (3, "least_outstanding_tokens")
    assert sum(three.summary["num_prompts_per_replica"].values()) == three.summary["num_prompts"] == 16
    # a report takes them for what they are: other settings, no repeats
    (section,), _ = load_sections([Path("on-1"), Path("on-3")])
    assert section.labels == ("spin 1 replica", "spin 3 replicas")


@pytest.mark.usefixtures("setup")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["replicas=0"], "replicas"),
        (["replicas=2", "router._target_=nobody.Here"], "router._target_ is nobody.Here"),
        (["replicas=2", "+router.speed=1"], "unknown key 'router.speed'"),
        (["replicas=2", "engine.oracle_num_speculative_tokens=4"], "the oracle is known for one replica"),
    ],
)
def test_what_does_not_fit_is_one_line(overrides: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SIMULATED, *overrides, "hydra.run.dir=run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1, error


def test_hugging_face_has_one(spinbench: CommandLine) -> None:
    done = spinbench.replay("engine=huggingface", "selector=plain", "replicas=2")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "replicas is 2; engine.kind=huggingface has one" in done.err


def test_without_ray_it_says_so(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    done = spinbench.replay("replicas=2")
    assert (done.code, done.err) == (
        2, "error: replicas > 1 with engine=runtime needs Ray: pip install 'spinbench[ray]'\n"
    )  # fmt: skip


@pytest.mark.cluster
def test_ray_replicas_answer_as_one_server(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from spinbench.cli.engine.ray_replicas import RayReplica
    from spinbench.workload.request import Request

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    room = ["engine.ray.cpus_per_replica=0.5", "selector=round_robin", "arrivals=trace"]
    assert spinbench.replay("replicas=1", *room, "hydra.run.dir=one").code == 0
    done = spinbench.replay("replicas=2", *room, "router=least_outstanding_tokens", "hydra.run.dir=two")
    assert done.code == 0, done.err
    texts = ["request_id", "output_tokens", "output_token_ids", "output_text", "finish_reason"]
    one, two = (read_run(Path(name)).requests.sort_values("request_id", ignore_index=True) for name in ("one", "two"))
    assert two[texts].equals(one[texts])
    assert set(two["replica"]) == {0, 1}
    summary = json.loads(Path("two/summary.json").read_text())
    assert sum(summary["num_prompts_per_replica"].values()) == 5

    # the same again, and one actor's process ends in the midst of it
    put, killed = RayReplica.put, []

    def put_and_kill(self: RayReplica, requests: Sequence[tuple[Request, float]]) -> None:
        put(self, requests)
        if not killed:
            killed.append(self)
            self.drop()

    with monkeypatch.context() as patch:
        patch.setattr(RayReplica, "put", put_and_kill)
        done = spinbench.replay("replicas=2", *room, "hydra.run.dir=lost")
    assert done.code == 0, done.err
    assert "warning: replica 0 was lost after" in done.err
    after: Any = read_run(Path("lost")).requests.sort_values("request_id", ignore_index=True)
    assert after[texts].equals(one[texts])
    assert set(after["replica"]) == {1}
    assert done.err.count("\n") == 1, "no line of Ray's own"


def test_replicas_that_would_wait_for_ever_are_refused() -> None:
    config, engine = SimpleNamespace(replicas=3), SimpleNamespace(ray=SimpleNamespace(cpus_per_replica=1.0))
    require_room(config, engine, 0.0, {"CPU": 3.0})  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match=r"replicas is 3 with engine.ray.cpus_per_replica=1, and the Ray cluster has 2 CPU"
    ):
        require_room(config, engine, 0.0, {"CPU": 2.0})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"engine.ray.gpus_per_replica=0.5, and the Ray cluster has 1 GPU"):
        require_room(config, engine, 0.5, {"CPU": 3.0, "GPU": 1.0})  # type: ignore[arg-type]
