"""What `spinbench profile` is told: every key with its type and range. Defaults and meanings are in conf/."""

from typing import Annotated

from pydantic import Field, model_validator

from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.cli.config.models import ModelsSection
from spinbench.cli.config.replay import EngineSection, SamplingSection, require_no_profile
from spinbench.cli.config.section import Positive, Section
from spinbench.cli.profile.dtype import THIS_MACHINE
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError


class ProfileConfig(Section):
    """Everything that `spinbench profile` is told."""

    engine: EngineSection
    models: ModelsSection
    sampling: SamplingSection
    device: Annotated[str, Field(min_length=1)]
    tensor_parallel: Positive
    max_num_seqs: Positive
    max_context_tokens: Annotated[int, Field(ge=64)]
    max_num_batched_tokens: Annotated[int, Field(ge=64)]
    max_num_speculative_tokens: Annotated[int, Field(ge=1, le=64)]
    layouts: Annotated[list[LayoutKind], Field(min_length=1)]
    repeats: Positive
    precision: Annotated[float, Field(ge=0, lt=1)]
    max_repeats: Positive

    @model_validator(mode="after")
    def _consistent(self) -> "ProfileConfig":
        if self.engine.kind != "runtime":
            raise UserError(f"engine.kind is {self.engine.kind}; a profile is of real models: engine=runtime")
        require_no_profile(self.engine)
        if self.layouts[0] != "packed":
            raise UserError("layouts must begin with packed: prefills and drafts have no other layout")
        if len(set(self.layouts)) < len(self.layouts):
            raise UserError("layouts names a layout twice")
        if self.precision and self.max_repeats < self.repeats:
            raise UserError(f"max_repeats is {self.max_repeats}; it must be at least repeats, {self.repeats}")
        if self.tensor_parallel > 1 and self.device == THIS_MACHINE:
            raise UserError(
                f"tensor_parallel is {self.tensor_parallel}; with device={THIS_MACHINE} it must be 1: the runtime uses "
                "one device"
            )
        return self

    @property
    def limits(self) -> ProfileLimits:
        """How far the profile reaches. Raises UserError for limits that contradict each other."""
        return ProfileLimits(
            max_num_seqs=self.max_num_seqs,
            max_context_tokens=self.max_context_tokens,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_speculative_tokens=self.max_num_speculative_tokens,
        )
