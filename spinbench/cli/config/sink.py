"""The section `sink`: where finished runs are sent as well."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from spinbench.cli.config.section import Section, kind_tag
from spinbench.report.sink.mlflow import MlflowSink
from spinbench.report.sink.protocol import Sink
from spinbench.report.sink.wandb import WandbSink

Name = Annotated[str, Field(min_length=1)]


class NoSinkSection(Section):
    """Nowhere."""

    kind: Literal["none"]


class WandbSection(Section):
    """Weights & Biases."""

    kind: Literal["wandb"]
    project: Name
    entity: Name | None
    group: Name | None


class MlflowSection(Section):
    """MLflow."""

    kind: Literal["mlflow"]
    experiment: Name
    tracking_uri: Name | None


SinkSection = Annotated[
    Annotated[NoSinkSection, Tag("kind=none")]
    | Annotated[WandbSection, Tag("kind=wandb")]
    | Annotated[MlflowSection, Tag("kind=mlflow")],
    Discriminator(
        kind_tag,
        custom_error_type="sink_kind",
        custom_error_message="A sink whose kind is none, wandb or mlflow",
    ),
]


def make_sink(section: SinkSection | None) -> Sink | None:
    """The sink; None where runs stay in their folders. Raises UserError where its package is not installed."""
    if isinstance(section, WandbSection):
        return WandbSink(section.project, section.entity, section.group)
    if isinstance(section, MlflowSection):
        return MlflowSink(section.experiment, section.tracking_uri)
    return None
