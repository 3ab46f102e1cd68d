"""A target shared by two processes over gloo: the same texts as in one, and the same decisions in both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spinbench.cli.torchrun import check_processes
from spinbench.errors import UserError
from spinbench.metrics.store import read_run
from spinbench.models.tensor_parallel import check_share
from spinbench.runtime.kv.kv_pool import KvShape
from tests.cli.conftest import TinyModels, tiny, tiny_overrides
from tests.forked import Forked
from tests.runtime import rank_worker, serving, tiny_models
from tests.runtime.rank_worker import FAMILIES, SCARCE, SERVED, trace

__all__ = ["tiny"]


@pytest.fixture(scope="module", params=["forked", pytest.param("torchrun", marks=pytest.mark.full_matrix)])
def ranks(request: pytest.FixtureRequest, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of torch's launcher left: a file of each, and the folder of a run on the command line."""
    folder = tmp_path_factory.mktemp("ranks")
    overrides = [one for one in tiny_overrides(tiny, folder) if not one.startswith("models.drafters")]
    arguments = [
        "replay", *overrides, f"models.drafters=[{tiny.good_drafter},prompt_lookup]", f"trace.path={folder}/tiny.jsonl",
        f"hydra.run.dir={folder}/run", "engine.tensor_parallel=2", "selector=round_robin",
    ]  # fmt: skip
    if request.param == "forked":
        code, out, err = Forked(lambda: rank_worker.start(str(folder), arguments), Path.cwd()).end()
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*torchrun, "-m", "tests.runtime.rank_worker", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, err
    (folder / "stdout").write_text(out)
    return folder


def decided(folder: Path, rank: int) -> dict[str, dict]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


def test_every_rank_takes_the_same_decisions(ranks: Path):
    first, second = decided(ranks, 0), decided(ranks, 1)
    assert len(first) == len(SERVED) + len(FAMILIES) - 1
    assert first == second  # times and tokens, bit for bit
    assert "out_of_memory" in second[f"llama {SCARCE}"]["kinds"]


@pytest.mark.parametrize("name", [*(f"llama {name}" for name in SERVED), "qwen3 by time"])
def test_outputs_equal_those_of_one_process(ranks: Path, name: str):
    family, _, setting = name.partition(" ")
    target = tiny_models.target(family)
    record = serving.serve(target, tiny_models.drafters(target), trace(), **SERVED[setting])
    one = {request: list(tokens) for request, tokens in serving.outputs(record).items()}
    assert decided(ranks, 0)[name]["outputs"] == one


def test_one_process_writes_the_run(ranks: Path):
    run = read_run(ranks / "run")
    assert run.meta["hardware"]["tensor_parallel"] == 2
    assert len(run.requests) == 5
    assert (ranks / "stdout").read_text().count("output tokens") <= 1
    assert [path.name for path in ranks.iterdir() if path.is_dir()] == ["run"]


def test_a_share_has_its_heads_alone():
    shape = KvShape(num_layers=2, num_heads=6, num_kv_heads=2, head_dim=4)
    share = shape.share(2)
    assert (share.num_heads, share.num_kv_heads, share.heads_per_kv_head) == (3, 1, 3)
    assert share.bytes_per_token(torch.float32) * 2 == shape.bytes_per_token(torch.float32)


@pytest.mark.parametrize(
    ("family", "count", "reason"),
    [
        ("llama", 3, "must divide the heads of target 'x', which has 6 query heads and 2 key heads"),
        ("gpt2", 3, "transformers has no plan of how to share the heads of target 'x', a GPT2LMHeadModel"),
    ],
)
def test_what_cannot_be_shared_is_refused(family: str, count: int, reason: str):
    with pytest.raises(UserError, match=reason):
        check_share("x", tiny_models.random_model(family, 0), count)


@pytest.mark.parametrize(
    ("environment", "asked", "reason"),
    [
        ({}, 2, "this is one process; start it as torchrun --nproc-per-node 2 -m spinbench"),
        ({"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"}, 2, "is 2, and torchrun started 4 processes"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, 1, "is 1, and torchrun started 2 processes"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, 2, r"more processes here than there are GPUs \(1\)"),
    ],
)
def test_processes_and_shares_are_as_many(monkeypatch, environment: dict[str, str], asked: int, reason: str):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=reason):
        check_processes(asked, 1)
    check_processes(int(environment.get("WORLD_SIZE", 1)), None)


def test_a_wrong_part_is_noticed():
    from spinbench.control.jobs.result import PrefillResult
    from spinbench.runtime.process_group import require_same

    own, first = (PrefillResult(torch.tensor(tokens).numpy()) for tokens in ([3, 4], [3, 5]))
    require_same(own, own)
    with pytest.raises(RuntimeError, match="other tokens"):
        require_same(own, first)
