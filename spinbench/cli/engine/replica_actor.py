"""What runs in the Ray actor of a replica: models of its own, and a serving loop in a thread of its own."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.assemble import LESS, Assembly, assemble, runtime_section
from spinbench.cli.engine.live_facts import live_facts, text_decoder
from spinbench.cli.engine.model_shelf import ModelShelf
from spinbench.cli.engine.warm_up import warm_up
from spinbench.control.records.run_record import RunRecord
from spinbench.runtime.out_of_memory import too_little_memory
from spinbench.runtime.replicas.replica import LiveReplica, ReplicaReport
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Trace


@dataclass(frozen=True)
class PreparedReplica:
    """What a replica that is ready tells of itself."""

    trace: Trace
    num_prompt_tokens: Mapping[str, int]
    """By request id."""
    has_texts: bool
    """Whether there is a tokenizer."""
    facts: Mapping[str, Any]
    """As `Session.facts`."""


class ReplicaActor:
    """`prepare`, `begin` and `serve` are called on the loop's thread, one after another; all else on another."""

    def __init__(self, index: int, config: Mapping[str, Any], folder: str) -> None:
        """The `index`-th replica of a replay with this plain config, whose relative paths begin at `folder`."""
        os.chdir(folder)
        self._index = index
        self._config = parse_config(config, ReplayConfig)
        self._assembly: Assembly | None = None
        self._replica: LiveReplica | None = None

    def prepare(self) -> PreparedReplica:
        """Load the models and warm them up. Raises UserError."""
        threads = runtime_section(self._config).num_threads
        if threads is not None:
            torch.set_num_threads(threads)  # of this thread, which serves
        with too_little_memory(f"replica {self._index}", LESS):
            assembly = self._assembly = assemble(self._config, ModelShelf(), self._index)
            warm_up(assembly)
        return PreparedReplica(
            assembly.trace,
            {name: len(ids) for name, ids in assembly.prompts.items()},
            text_decoder(assembly.target) is not None,
            live_facts(self._config, assembly),
        )

    def clock(self) -> float:
        """What this process's clock reads, in seconds."""
        return time.perf_counter()

    def begin(self, zero_s: float) -> None:
        """Start a run whose clock reads 0 when `clock` gives `zero_s`."""
        assembly = self._prepared
        queue = ArrivalQueue(assembly.trace.requests, self._config.arrivals)
        self._replica = LiveReplica(assembly.setting, assembly.body, queue.requests, assembly.prompts, zero_s)

    def serve(self) -> RunRecord:
        """The run, to its end."""
        return self._begun.serve()

    def put(self, sent: Sequence[tuple[str, float]]) -> None:
        """Requests by their ids, with their arrival times."""
        by_id = {request.id: request for request in self._prepared.trace.requests}
        self._begun.put([(by_id[name], arrival_s) for name, arrival_s in sent])

    def report(self) -> ReplicaReport:
        """How far it is."""
        return self._begun.report()

    def close(self) -> None:
        """No further request will come."""
        self._begun.close()

    def stop(self) -> None:
        """End the run early."""
        self._begun.stop()

    def decode(self, token_ids: Sequence[int]) -> str:
        """Output token ids to text."""
        decode = text_decoder(self._prepared.target)
        return "" if decode is None else decode(token_ids)

    @property
    def _prepared(self) -> Assembly:
        if self._assembly is None:
            raise RuntimeError("the replica is not prepared")
        return self._assembly

    @property
    def _begun(self) -> LiveReplica:
        if self._replica is None:
            raise RuntimeError("the replica's run has not begun")
        return self._replica
