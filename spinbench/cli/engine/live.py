"""engine=runtime: real models, loaded once per command and warmed up before each run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.cli.config.device_choice import choose_device
from spinbench.cli.config.replay import ReplayConfig, RuntimeSection
from spinbench.cli.engine.assemble import LESS, Assembly, assemble, num_threads, runtime_section, sampling
from spinbench.cli.engine.decisions import check_decisions, drafter_infos
from spinbench.cli.engine.execution import execution_of
from spinbench.cli.engine.live_facts import live_facts, text_decoder
from spinbench.cli.engine.model_shelf import ModelShelf, macs_of
from spinbench.cli.engine.ray_replicas import ray_session
from spinbench.cli.engine.run_costs import cost_warnings, run_costs
from spinbench.cli.engine.session import OnProgress, Session, WrapBody
from spinbench.cli.engine.warm_up import warm_up
from spinbench.cli.progress import show_stage
from spinbench.cli.torchrun import check_processes
from spinbench.control.loop import ServingLoop
from spinbench.errors import UserError
from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.session import live_loop
from spinbench.sweep.launcher.ray_cluster import import_ray
from spinbench.workload.arrivals import ArrivalQueue


class LiveEngine:
    """Makes sessions on real models."""

    def __init__(self) -> None:
        self._shelf = ModelShelf()

    def check(self, config: ReplayConfig) -> None:
        """Raise UserError for what is wrong with the engine's config; loads no model."""
        sampling(config)
        engine = runtime_section(config)
        check_processes(engine.tensor_parallel, torch.cuda.device_count() if torch.cuda.is_available() else None)
        if engine.tensor_parallel > 1:
            _check_sharing(config, engine)
        if config.replicas > 1:
            import_ray("replicas > 1 with engine=runtime")
        execution_of(engine)
        check_decisions(config, run_costs(config, engine, drafter_infos(config.models)))

    @contextmanager
    def session(self, config: ReplayConfig) -> Iterator[Session]:
        """A warm session; torch has the configured threads while inside. Raises UserError, KeyboardInterrupt."""
        if config.replicas > 1:
            with ray_session(config) as session:
                yield session
            return
        engine = runtime_section(config)
        with num_threads(engine.num_threads), too_little_memory(f"{config.models.target} and its drafters", LESS):
            with show_stage("loading the models"):
                assembly = assemble(config, self._shelf)
            try:
                with _ended_with_ranks(assembly.ranks):
                    with show_stage("warming up"):
                        warm_up(assembly)
                    yield _session(config, assembly)
                    if assembly.ranks is not None:
                        assembly.ranks.leave()
            finally:
                assembly.body.close()

    @contextmanager
    def bench(self, config: ReplayConfig, profile: ProfileMeta) -> Iterator[Bench]:
        """What times jobs of a profile on the models of a replay, with its threads. Raises UserError."""
        engine = runtime_section(config)
        with num_threads(engine.num_threads):
            target = self._shelf.target(config.models.target, getattr(torch, engine.dtype), choose_device(engine))
            models = self._shelf.drafters(config.models.drafters)
            infos = drafter_infos(config.models, macs_of(models))
            metas = [profile.drafter(info.name) for info in infos]
            drafters = tuple(zip(metas, infos, models, strict=True))
            yield Bench(target, drafters, sampling(config), profile.limits.of_plan, execution_of(engine))


@contextmanager
def _ended_with_ranks(ranks: Ranks | None) -> Iterator[None]:
    """Raise TooLittleMemory, with what was kept, where the first of several processes ended for want of memory."""
    try:
        yield
    except KeyboardInterrupt as kept:
        if ranks is None or ranks.ended_by is None:
            raise
        raise TooLittleMemory(f"{ranks.ended_by}; {str(kept) or 'nothing was written'}") from None


def _check_sharing(config: ReplayConfig, engine: RuntimeSection) -> None:
    """Raise UserError for what does not go with a target that several processes share."""
    if config.replicas > 1:
        raise UserError(
            f"replicas is {config.replicas} and engine.tensor_parallel {engine.tensor_parallel}; several processes "
            "share the target of one replica: set one of the two to 1"
        )
    if config.placement.kind != "shared":
        raise UserError(
            f"placement is {config.placement.kind} and engine.tensor_parallel {engine.tensor_parallel}; the first "
            "process has the drafters beside its part of the target: set placement=shared"
        )
    if engine.device == "cpu" and torch.cuda.is_available():
        raise UserError(
            f"engine.device is cpu and engine.tensor_parallel {engine.tensor_parallel}; transformers shares a target "
            "among GPUs where there are some: set engine.device=cuda or auto"
        )


def _session(config: ReplayConfig, assembly: Assembly) -> Session:
    def make_loop(on_progress: OnProgress, wrap: WrapBody) -> ServingLoop:
        queue = ArrivalQueue(assembly.trace.requests, config.arrivals)
        body = assembly.body
        return live_loop(assembly.setting, body, queue, assembly.prompts, on_progress, wrap(body))

    return Session(
        trace=assembly.trace,
        setting=assembly.setting,
        make_loop=make_loop,
        decode=text_decoder(assembly.target),
        judge=lambda record: {},
        warnings=lambda: cost_warnings(config, assembly.engine),
        facts=live_facts(config, assembly),
        writes=assembly.ranks is None or assembly.ranks.is_first,
    )
