"""What `meta.yaml` says of the device that was profiled."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from spinbench.control.costs.overlap import Overlap

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


class MetaSection(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class OverlapMeta(MetaSection):
    """What a step of the target and a draft take on two lanes of the device, over what they take with it alone.

    Means over the batch sizes that were tried.
    """

    target_alone: Factor
    """The other lane idle."""
    target_beside: Factor
    """The other lane busy."""
    drafter_alone: Factor
    drafter_beside: Factor
    drafter: Name
    """Which one drafted: the largest."""
    drafter_threads: Positive | None
    """CPU threads of its lane; None on a GPU."""

    @property
    def factors(self) -> Overlap:
        """As decisions and simulations take them."""
        return Overlap(self.target_alone, self.target_beside, self.drafter_alone, self.drafter_beside)


class PaceMeta(MetaSection):
    """How the machine's pace moved while it was profiled, as times over those at its mean pace.

    It is taken out of the timings: what is left are times at the mean pace.
    """

    p10: Factor
    """A tenth of all timings was taken at this pace or a faster one."""
    p90: Factor


class DeviceMeta(MetaSection):
    """What the timings are of."""

    name: Name
    """The GPU's or CPU's name; a datasheet's for an analytic profile."""
    type: Literal["cpu", "cuda"]
    memory_bytes: Positive
    """For weights and KV cache; of all GPUs together under tensor parallelism."""
    count: Positive
    """Devices that hold the target (tensor parallelism)."""
    num_threads: Positive | None
    """CPU threads of torch; None for a device that was not there."""
    driver: str | None
    copy_bytes_per_s: float | None = None
    """Bytes read and written per second by a large copy within the device's memory, measured; None = not measured."""
    matrix_flops_per_s: float | None = None
    """Operations per second of a large matrix product in the profile's dtype, measured; a multiply-add is two."""
    pace: PaceMeta | None = None
    """None = the profile is older or analytic."""
    overlap: OverlapMeta | None = None
    """None = not measured: no drafter has a network, or the profile is older or analytic."""
