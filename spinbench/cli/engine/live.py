"""engine=runtime: real models, loaded once per command and warmed up before each run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.cli.config.device_choice import choose_device
from spinbench.cli.config.replay import ReplayConfig, RuntimeSection
from spinbench.cli.engine.assemble import Assembly, assemble, num_threads, runtime_section, sampling
from spinbench.cli.engine.decisions import check_decisions, drafter_infos
from spinbench.cli.engine.execution import attention_kind, execution_of, graph_mode
from spinbench.cli.engine.model_shelf import ModelShelf, macs_of
from spinbench.cli.engine.run_costs import cost_warnings, run_costs
from spinbench.cli.engine.session import OnProgress, Session, WrapBody
from spinbench.cli.engine.warm_up import warm_up
from spinbench.cli.hardware import device_hardware
from spinbench.cli.progress import show_stage
from spinbench.cli.torchrun import check_processes
from spinbench.control.loop import ServingLoop
from spinbench.dotted_name import is_dotted_name
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel, TargetModel, macs_per_token
from spinbench.models.ngram_file import packaged_ngrams
from spinbench.models.packed_drafter import packaged_drafters
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.session import live_loop
from spinbench.sweep.launcher.ray_cluster import import_ray
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.arrivals import ArrivalQueue

LESS = "take smaller or fewer models, or lower kv.gpu_memory_utilization, kv.num_blocks or scheduler.max_num_seqs"
"""What leaves more memory."""


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
            # imported on demand: it imports this module
            from spinbench.cli.engine.ray_replicas import ray_session

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


def live_facts(config: ReplayConfig, assembly: Assembly) -> dict[str, Any]:
    """Entries of meta.json that follow from the models and the machine that they are on."""
    return {
        "dtype": assembly.engine.dtype,
        "models": model_facts(assembly.target, [(info.name, model) for info, model in assembly.drafters]),
        # with how the models are run on it: the simulator's entry has other keys as well
        "hardware": {
            **device_hardware(assembly.target.model.device),
            "attention": attention_kind(assembly.engine),
            "graphs": graph_mode(assembly.engine),
            "tensor_parallel": assembly.engine.tensor_parallel,
        },
    }


def model_facts(
    target: TargetModel, drafters: Iterable[tuple[str, DrafterModel | NgramModel | None]]
) -> dict[str, Any]:
    """`models` of meta.json, from drafters by their names in the run: a model behind a lookup is one of its own."""
    return {
        "target": {
            "name": target.name,
            "kind": target.kind,
            "sha256": target.weights_sha256,
            "macs_per_token": macs_per_token(target.model),
            "kv_bytes_per_token": KvShape.of(target.model.config).bytes_per_token(target.model.dtype),
        },
        "drafters": [
            {
                "name": name,
                "kind": _drafter_kind(name),
                "sha256": model.weights_sha256,
                "macs_per_token": model.macs_per_token,
            }
            for name, model in drafters
            if model is not None
        ],
    }


def text_decoder(target: TargetModel) -> Callable[[Sequence[int]], str] | None:
    """Output token ids to text; None where there is no tokenizer."""
    tokenizer = target.tokenizer
    return None if tokenizer is None else lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _drafter_kind(name: str) -> str:
    """Where a drafter comes from: packaged, path, python or hub."""
    name = name.removesuffix(LOOKUP_SUFFIX)
    if name in (*packaged_drafters(), *packaged_ngrams()):
        return "packaged"
    if Path(name).expanduser().exists():
        return "path"
    return "python" if is_dotted_name(name) else "hub"
