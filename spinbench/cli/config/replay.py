"""What a replay's config must be: every key with its type and range. Defaults and meanings are in conf/."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError

from spinbench.cli.config.error import explain_validation_error
from spinbench.cli.config.models import ModelsSection
from spinbench.cli.config.section import Positive, Section, kind_tag
from spinbench.cli.config.sink import SinkSection
from spinbench.cli.config.sweep import LauncherSection, SweepSection
from spinbench.cli.hydra_app.error import explain_omegaconf_error
from spinbench.control.placement import PlacementKind
from spinbench.control.switching import SwitchingKind
from spinbench.dotted_name import DOTTED_NAME
from spinbench.errors import UserError
from spinbench.metrics.store import Kept
from spinbench.workload.acceptance.table_meta import SamplingMeta
from spinbench.workload.arrivals import ArrivalPattern
from spinbench.workload.readers.registry import TraceFormat
from spinbench.workload.sampling_kind import SamplingKind
from spinbench.workload.trace_options import TraceOptions

KnownDtype = Literal["float32", "bfloat16", "float64"]
DtypeName = Literal["auto", "float32", "bfloat16", "float64"]
Part = dict[str, Any]
"""A `_target_` and its parameters, checked by the class that it names."""


class LiveSection(Section):
    """Real models: the hardware and the number format."""

    dtype: DtypeName
    device: Literal["auto", "cpu", "cuda"]
    num_threads: Positive | None


class RaySection(Section):
    """Where replicas run."""

    address: Annotated[str, Field(min_length=1)] | None = None
    cpus_per_replica: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_replica: Annotated[float, Field(ge=0)] | None = None


class RuntimeSection(LiveSection):
    """Our runtime."""

    kind: Literal["runtime"]
    profile: Annotated[str, Field(min_length=1)] | None
    attention: Literal["auto", "torch", "triton"]
    graphs: Literal["auto", "off", "eager", "cuda"]
    graph_memory_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    tensor_parallel: Positive = 1
    ray: RaySection = RaySection()


class HuggingFaceSection(LiveSection):
    """Hugging Face's own `generate` in its place."""

    kind: Literal["huggingface"]
    draft_length: Literal["drafting", "huggingface"]


class SimulationSection(Section):
    """Simulated time: where durations and acceptance come from."""

    kind: Literal["simulation"]
    profile: Annotated[str, Field(min_length=1)]
    acceptance: Literal["table", "bootstrap", "synthetic"]
    source: Annotated[str, Field(min_length=1)]
    acceptance_seed: Annotated[int, Field(ge=0)]
    oracle_num_speculative_tokens: Annotated[int, Field(ge=1, le=64)] | None
    lanes: Literal["devices", "streams"] = "devices"


EngineSection = Annotated[
    Annotated[RuntimeSection, Tag("kind=runtime")]
    | Annotated[SimulationSection, Tag("kind=simulation")]
    | Annotated[HuggingFaceSection, Tag("kind=huggingface")],
    Discriminator(
        kind_tag,
        custom_error_type="engine_kind",
        custom_error_message="An engine whose kind is runtime, simulation or huggingface",
    ),
]


def require_no_profile(engine: EngineSection) -> None:
    """Raise UserError where a command that decides nothing is told what decisions go by, or to share a target."""
    require_one_process(engine)
    if isinstance(engine, RuntimeSection) and engine.profile is not None:
        raise UserError(f"engine.profile is {engine.profile!r}; it is for spinbench replay, here it must be null")


def require_one_process(engine: EngineSection) -> None:
    """Raise UserError where a command that knows only whole targets is told to share one."""
    if isinstance(engine, RuntimeSection) and engine.tensor_parallel > 1:
        raise UserError(
            f"engine.tensor_parallel is {engine.tensor_parallel}; it is for one run of spinbench replay, and must be 1 "
            "here"
        )


@dataclass(frozen=True, kw_only=True)
class TraceSection(TraceOptions):
    """A trace file and the part of it that is replayed."""

    path: str
    format: TraceFormat | Annotated[str, Field(pattern=DOTTED_NAME)]
    """One of ours, or the dotted name of a `TraceReader`."""


class PlacementSection(Section):
    """Which models have a device of their own."""

    kind: PlacementKind
    drafter_threads: Positive


class SchedulerSection(Section):
    """Continuous batching."""

    max_num_seqs: Positive
    max_num_batched_tokens: Positive


class KvSection(Section):
    """The KV cache."""

    block_size: Positive
    num_blocks: Positive | None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]


class SamplingSection(Section):
    """How tokens are drawn; the ranges are those of `spinbench.runtime.sampling.law.Sampling`, which needs torch."""

    kind: SamplingKind
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    top_k: Annotated[int, Field(ge=0)]

    def of_texts(self) -> SamplingMeta:
        """What decides a text beside the target, for acceptance tables.

        Raises UserError where the drafters have a part in it, so that no table can hold what they would do.
        """
        if self.kind == "rejection" and self.temperature > 0:
            raise UserError(
                "sampling.kind is rejection: there the text depends on who drafts, so acceptance cannot be recorded or "
                "looked up; use sampling=drafter_invariant or greedy, or in a simulation engine.acceptance=synthetic"
            )
        return SamplingMeta(**self.model_dump(exclude={"kind"}))


class ServedConfig(Section):
    """What is served and how it is laid out, whoever drafts: all that is known where that is still to be found."""

    models: ModelsSection
    trace: TraceSection
    verification: Part
    pipeline: Part
    placement: PlacementSection
    switching: SwitchingKind
    scheduler: SchedulerSection
    kv: KvSection
    sampling: SamplingSection
    slo: str | None
    seed: Annotated[int, Field(ge=0)]


class ServingConfig(ServedConfig):
    """What is served and how it is decided, on whichever engine and at whichever load."""

    selector: Part
    drafting: Part
    method: Annotated[str, Field(min_length=1)] | None
    repeat: Annotated[int, Field(ge=0)]


class ReplayConfig(ServingConfig):
    """Everything that `spinbench replay` is told."""

    engine: EngineSection
    arrivals: ArrivalPattern
    replicas: Positive = 1
    router: Part = Field(default={"_target_": "spinbench.control.router.round_robin.RoundRobinRouter"})
    keep: Kept = "all"
    sweep: SweepSection | None = None
    """None, as the next, where a run is part of another command."""
    launcher: LauncherSection | None = None
    sink: SinkSection | None = None


NOT_OF_A_RUN = ("keep", "sweep", "launcher", "sink")
"""Keys that say how runs are made and what is kept of them, never what they come to."""


Schema = TypeVar("Schema", bound=BaseModel)


def resolved(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The config as plain values. Raises UserError for a value left open or an interpolation that leads nowhere."""
    if not isinstance(config, DictConfig):
        return dict(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = "" if error.full_key else _broken_key(config)  # in the midst of resolving, OmegaConf names none
        raise UserError(f"{key and key + ': '}{explain_omegaconf_error(error)}") from error
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def run_config(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The part of a replay's config that its result follows from, as plain values. Raises UserError as `resolved`."""
    return {key: value for key, value in resolved(config).items() if key not in NOT_OF_A_RUN}


def _broken_key(config: DictConfig) -> str:
    """The first key whose value cannot be read, with dots; empty when there is none."""
    for name in config:
        try:
            value = config[name]
        except OmegaConfBaseException:
            return str(name)
        inner = _broken_key(value) if isinstance(value, DictConfig) else ""
        if inner:
            return f"{name}.{inner}"
    return ""


def parse_config(config: DictConfig | Mapping[str, Any], schema: type[Schema]) -> Schema:
    """The config, checked. Raises UserError naming the first key that is wrong and what would be right."""
    try:
        # as JSON: strict about types, yet lists and mappings may become tuples and dataclasses
        return schema.model_validate_json(json.dumps(resolved(config)))
    except ValidationError as error:
        raise UserError(explain_validation_error(error, schema=schema)) from error
