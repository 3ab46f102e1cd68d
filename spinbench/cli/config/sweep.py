"""How the points of a sweep are run: the sections `launcher` and `sweep`."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from spinbench.cli.config.section import Positive, Section, kind_tag


class SweepSection(Section):
    """What is done about points that failed."""

    retry_failed: bool
    max_attempts: Positive


class SerialSection(Section):
    """Here, one point after another."""

    kind: Literal["serial"]


class ProcessesSection(Section):
    """Processes of this machine."""

    kind: Literal["processes"]
    workers: Positive | None


class SlurmSection(Section):
    """Jobs of a Slurm cluster."""

    kind: Literal["slurm"]
    cluster: Literal["slurm", "local"]
    workers: Positive
    partition: Annotated[str, Field(min_length=1)] | None
    timeout_min: Positive
    cpus_per_worker: Positive
    memory_gb: Annotated[float, Field(gt=0)] | None
    gpus_per_worker: Annotated[int, Field(ge=0)] | None
    options: dict[str, Any]


class RaySection(Section):
    """Tasks of a Ray cluster."""

    kind: Literal["ray"]
    address: Annotated[str, Field(min_length=1)] | None
    workers: Positive | None
    cpus_per_worker: Annotated[float, Field(gt=0)]
    gpus_per_worker: Annotated[float, Field(ge=0)] | None


LauncherSection = Annotated[
    Annotated[SerialSection, Tag("kind=serial")]
    | Annotated[ProcessesSection, Tag("kind=processes")]
    | Annotated[SlurmSection, Tag("kind=slurm")]
    | Annotated[RaySection, Tag("kind=ray")],
    Discriminator(
        kind_tag,
        custom_error_type="launcher_kind",
        custom_error_message="A launcher whose kind is serial, processes, slurm or ray",
    ),
]
