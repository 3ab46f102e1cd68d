"""What a recording's config must be, and the replay that gets the target's answers."""

from typing import Annotated

from pydantic import Field

from spinbench.cli.config.device_choice import with_known_dtype
from spinbench.cli.config.models import ModelsSection
from spinbench.cli.config.replay import (
    EngineSection,
    KvSection,
    PlacementSection,
    ReplayConfig,
    RuntimeSection,
    SamplingSection,
    SchedulerSection,
    Section,
    TraceSection,
    require_no_profile,
)
from spinbench.errors import UserError
from spinbench.workload.arrivals import ArrivalPattern

Folder = Annotated[str, Field(min_length=1)]


class RecordConfig(Section):
    """Everything that `spinbench record` is told."""

    engine: EngineSection
    models: ModelsSection
    trace: TraceSection
    sampling: SamplingSection
    scheduler: SchedulerSection
    kv: KvSection
    out: Folder
    from_run: Folder | None
    merge: Folder | None
    num_speculative_tokens: Annotated[int, Field(ge=1, le=64)]
    rollout_tokens: Annotated[int, Field(ge=1, le=64)]

    @property
    def runtime(self) -> RuntimeSection:
        """The engine. Raises UserError where it is another one."""
        if not isinstance(self.engine, RuntimeSection):
            raise UserError(f"engine.kind is {self.engine.kind}; a recording needs real models: engine=runtime")
        require_no_profile(self.engine)
        return with_known_dtype(self.engine)


def plain_replay(config: RecordConfig, drafters: tuple[str, ...] = ()) -> ReplayConfig:
    """A replay of the same trace by plain decoding, all requests at once."""
    return ReplayConfig(
        engine=config.engine,
        models=config.models.model_copy(update={"drafters": list(drafters)}),
        trace=config.trace,
        arrivals=ArrivalPattern(kind="all_at_once"),
        selector={"_target_": "spinbench.control.selector.plain.PlainSelector"},
        drafting={"_target_": "spinbench.control.draft_length.fixed.FixedDraftLength", "num_speculative_tokens": 0},
        verification={"_target_": "spinbench.control.layout.packed.PackedLayout"},
        pipeline={"_target_": "spinbench.control.pipeline.SerialPipeline"},
        placement=PlacementSection(kind="shared", drafter_threads=1),
        switching="on_demand",
        scheduler=config.scheduler,
        kv=config.kv,
        sampling=config.sampling,
        slo=None,
        method=None,
        repeat=0,
        seed=0,
    )
