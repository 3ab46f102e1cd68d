"""engine=runtime with replicas > 1: each replica a Ray actor, and the router here in front of them."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from spinbench.cli.config.replay import ReplayConfig, RuntimeSection
from spinbench.cli.engine.assemble import runtime_section
from spinbench.cli.engine.decisions import check_decisions, drafter_infos, make_router
from spinbench.cli.engine.replica_actor import PreparedReplica, ReplicaActor
from spinbench.cli.engine.run_costs import cost_warnings, run_costs
from spinbench.cli.engine.session import Loop, OnProgress, Session, WrapBody
from spinbench.cli.locations import python_path
from spinbench.cli.progress import show_stage
from spinbench.control.records.run_record import RunRecord
from spinbench.control.router.dispatcher import Dispatcher
from spinbench.errors import UserError
from spinbench.runtime.replicas.replica import ReplicaReport
from spinbench.runtime.replicas.replicas import LiveReplicas, ReplicaLost, WallClock
from spinbench.sweep.launcher.ray_cluster import ray_cluster
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Request

WHAT = "replicas > 1 with engine=runtime"
LEAD_S = 0.2
"""Before the clock reads 0, for the replicas to begin."""
NUM_PINGS = 5
"""Messages by which an actor's clock is set: the fastest counts, so the error is at most half of what that one took."""
LOOP = "loop"
"""The actors' thread that serves; messages have another, in which they keep their order."""
Answer = TypeVar("Answer")


class RayReplica:
    """A `RemoteReplica`."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self.actor = actor
        self._served: Any = None
        """What its loop will give."""
        self._asked: Any = None

    def prepare(self) -> Any:
        """Begin to load; gives the reference of what it will tell."""
        return self.actor.prepare.options(concurrency_group=LOOP).remote()

    def begin(self, start_s: float) -> None:
        """Begin to serve, on a clock that reads 0 when ours reads `start_s`."""
        pings = []
        for _ in range(NUM_PINGS):
            before_s = time.perf_counter()
            theirs_s = self._get(self.actor.clock.remote())
            after_s = time.perf_counter()
            pings.append((after_s - before_s, theirs_s - (before_s + after_s) / 2))
        ahead_s = min(pings)[1]
        self._get(self.actor.begin.options(concurrency_group=LOOP).remote(start_s + ahead_s))
        self._served = self.actor.serve.options(concurrency_group=LOOP).remote()

    def put(self, requests: Sequence[tuple[Request, float]]) -> None:
        """Send requests."""
        self.actor.put.remote([(request.id, arrival_s) for request, arrival_s in requests])

    def ask(self) -> None:
        """Ask for a report."""
        self._asked = self.actor.report.remote()

    def report(self) -> ReplicaReport:
        """The report that was asked for."""
        ended, _ = self._ray.wait([self._served], timeout=0)
        if ended:
            self._get(self._served)  # only an error ends a loop whose inbox is open
        return self._get(self._asked)

    def stop(self) -> None:
        """End the run early."""
        self.actor.stop.remote()

    def record(self) -> RunRecord:
        """Close its inbox and wait for its record."""
        self.actor.close.remote()
        return self._get(self._served)

    def drop(self) -> None:
        """Make sure that it is gone: one that was only cut off must not go on."""
        self._ray.kill(self.actor, no_restart=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Output token ids to text."""
        return self._get(self.actor.decode.remote(list(token_ids)))

    def _get(self, reference: Any) -> Any:
        return get(self._ray, reference)


def get(ray: Any, reference: Any) -> Any:
    """What an actor gives. Raises ReplicaLost if it is gone, and what it raised itself."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    except ray.exceptions.RayActorError as error:
        raise ReplicaLost(str(error).splitlines()[0]) from error


@contextmanager
def ray_session(config: ReplayConfig) -> Iterator[Session]:
    """A session on warm replicas. Raises UserError, KeyboardInterrupt."""
    engine = runtime_section(config)
    with ray_cluster(engine.ray.address, WHAT, "engine.ray.address") as ray:
        gpus = _gpus_per_replica(engine, ray)
        require_room(config, engine, gpus, ray.cluster_resources())
        remote = ray.remote(
            num_cpus=engine.ray.cpus_per_replica, num_gpus=gpus, max_restarts=0, concurrency_groups={LOOP: 1},
            runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
        )(ReplicaActor)  # fmt: skip
        plain = config.model_dump()
        replicas = [RayReplica(ray, remote.remote(index, plain, os.getcwd())) for index in range(config.replicas)]
        with show_stage(f"loading the models on {config.replicas} replicas"):
            try:
                prepared = [get(ray, reference) for reference in [replica.prepare() for replica in replicas]]
            except ReplicaLost as error:
                raise UserError(f"a replica was lost while it loaded its models: {error}") from error
        yield _session(config, replicas, prepared[0])


def _session(config: ReplayConfig, replicas: Sequence[RayReplica], prepared: PreparedReplica) -> Session:
    setting = check_decisions(config, run_costs(config, runtime_section(config), drafter_infos(config.models)))
    lost: list[str] = []

    def make_loop(on_progress: OnProgress, wrap: WrapBody) -> Loop:
        queue = ArrivalQueue(prepared.trace.requests, config.arrivals)
        dispatcher = Dispatcher(queue, make_router(config), prepared.num_prompt_tokens, config.scheduler.max_num_seqs)
        clock = WallClock(LEAD_S)
        for replica in replicas:
            replica.begin(clock.start_s)
        return LiveReplicas(replicas, dispatcher, wrap(clock), on_progress, lost)

    def decode(token_ids: Sequence[int]) -> str:
        return _of_any(replicas, lambda replica: replica.decode(token_ids))

    return Session(
        trace=prepared.trace,
        setting=setting,
        make_loop=make_loop,
        decode=decode if prepared.has_texts else None,
        judge=lambda record: {},
        warnings=lambda: (*lost, *cost_warnings(config, runtime_section(config))),
        facts=prepared.facts,
    )


def _of_any(replicas: Sequence[RayReplica], ask: Callable[[RayReplica], Answer]) -> Answer:
    """What the first one says that is there."""
    for replica in replicas:
        try:
            return ask(replica)
        except ReplicaLost:
            continue
    raise UserError(f"all {len(replicas)} replicas were lost before the texts were fetched; give the command again")


def _gpus_per_replica(engine: RuntimeSection, ray: Any) -> float:
    if engine.ray.gpus_per_replica is not None:
        return engine.ray.gpus_per_replica
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    return 1.0 if engine.device == "cuda" or (engine.device == "auto" and has_gpus) else 0.0


def require_room(config: ReplayConfig, engine: RuntimeSection, gpus: float, there: Any) -> None:
    """Raise UserError where replicas would wait for ever for a place."""
    for name, key, each in (
        ("CPU", "cpus_per_replica", engine.ray.cpus_per_replica),
        ("GPU", "gpus_per_replica", gpus),
    ):
        if each * config.replicas > there.get(name, 0):
            raise UserError(
                f"replicas is {config.replicas} with engine.ray.{key}={each:g}, and the Ray cluster has "
                f"{there.get(name, 0):g} {name}s; lower one of them"
            )
