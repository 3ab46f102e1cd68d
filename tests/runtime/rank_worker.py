"""One of the processes that share a target: serves what `SERVED` names, and leaves what it decided in a file."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from spinbench.control.records.run_record import RunRecord
from spinbench.models.tensor_parallel import model_share
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.sampling.sampler import Sampling
from tests.runtime import serving, tiny_models
from tests.runtime.scarce_memory import ScarceMemory

SCARCE = "drafters short of memory"
"""Which the first process has: the other one is told."""
SERVED: dict[str, dict[str, Any]] = {
    "plain": {"selector": "plain", "max_num_seqs": 3},
    "by time": {"selector": "epsilon_greedy", "draft_length": 3, "layout": "decomposed"},
    "padded": {"selector": "fixed small_vocabulary", "sampling": serving.NUCLEUS, "layout": "padded"},
    "trees": {"selector": "merged good,poor", "draft_length": 2},
    "rejection": {"selector": "fixed good", "sampling": Sampling(temperature=0.9, kind="rejection")},
    "ahead": {"selector": "fixed good", "depth": "draft_while_verify", "draft_length": 2},
    SCARCE: {"selector": "fixed good", "draft_length": 2, "max_num_seqs": 3},
}
FAMILIES = ("llama", "qwen3")


def trace():
    """Short requests, the same in every process."""
    return serving.requests(3, max_new_tokens=8)


def decided(record: RunRecord) -> dict[str, Any]:
    """All that decisions came to, times included, as JSON can hold it."""
    rounds = record.rounds
    columns = ("row", "drafter", "drafted", "accepted", "verify_start_s", "verify_end_s")
    return {
        "outputs": {name: list(tokens) for name, tokens in serving.outputs(record).items()},
        "rounds": {name: getattr(rounds, name).tolist() for name in columns},
        "ends": [request.finish_s for request in record.requests],
        "kinds": list(record.spans.kind),
    }


def main(folder: Path) -> None:
    """Serve every set-up on this process's part."""
    ranks = Ranks.join(torch.device("cpu"))
    found: dict[str, Any] = {}
    for family in FAMILIES:
        whole = tiny_models.target(family)
        models = tiny_models.drafters(whole)
        share = model_share(family, whole.model, ranks.size, torch.device("cpu"))
        target = tiny_models.target_of(family, share)
        for name, setting in SERVED.items() if family == "llama" else [("by time", SERVED["by time"])]:
            with pytest.MonkeyPatch.context() as patch:
                if name == SCARCE and ranks.is_first:
                    ScarceMemory(patch, lambda _, spans: len(spans) == 1, ["draft"])
                record = serving.serve(target, models, trace(), ranks=ranks, **setting)
            found[f"{family} {name}"] = decided(record)
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(found))


def work(folder: str, arguments: list[str]) -> int:
    """What one process does: the set-ups, then a run on the command line; its exit code."""
    torch.set_num_threads(1)
    main(Path(folder))
    # processes that have met stay together: the run on the command line is among the same ones, and parts them
    from spinbench.cli.main import main as spinbench

    return spinbench(arguments)


def start(folder: str, arguments: list[str]) -> int:
    """Two of them as `torchrun --standalone` starts them, but that they are forks: what they import is imported once."""
    for module in ("spinbench.cli.replay.command", "spinbench.cli.engine.live"):
        import_module(module)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="ranks", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        max_restarts=0, start_method="fork",
    )  # fmt: skip
    return max(elastic_launch(config, work)(folder, arguments).values())


if __name__ == "__main__":
    sys.exit(work(sys.argv[1], sys.argv[2:]))
