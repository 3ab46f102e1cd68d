"""A device as its datasheet describes it, with the efficiencies that a roofline assumes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spinbench.checked_file import error_in, read_yaml
from spinbench.errors import UserError

FOLDER = Path(__file__).parent / "devices"
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""Size of a value, by dtype."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DeviceSpec(BaseModel):
    """One kind of GPU. Everything below `sources` is assumed, not on a datasheet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    memory_bytes: Annotated[int, Field(gt=0)]
    memory_bandwidth_bytes_per_s: Positive
    peak_flops: Mapping[str, Positive]
    """Dense operations per second by dtype; a multiply-add is two."""
    link_bytes_per_s: Positive
    """To other GPUs, both directions together, as datasheets count."""
    sources: Mapping[str, str]
    """By key, where its figure is from."""
    compute_efficiency: Share
    """Share of `peak_flops` that large matrix products reach."""
    memory_efficiency: Share
    """Share of the memory bandwidth that streaming weights or KV reaches."""
    attention_efficiency: Share = 1.0
    """Speed of attention over that of linear layers, both as above: 1 = one fused kernel; less where scores, masks and
    copies of the KV cache go through memory."""
    kernels_per_layer: Annotated[int, Field(ge=1)]
    kernel_launch_s: Seconds
    """What each kernel adds to its own work: launch and drain."""
    collective_s: Seconds
    """Latency of one all-reduce, of which tensor parallelism does two a layer."""
    host_job_s: Seconds
    """Host time of a job beside its passes."""
    host_pass_s: Seconds
    """Host time around each pass."""
    host_request_s: Seconds
    """Host time of a job per request."""
    gap_s: Seconds
    """The serving loop's own time between two jobs."""

    def flops(self, dtype: str) -> float:
        """Peak of a dtype. Raises UserError naming those that the datasheet has."""
        if dtype not in self.peak_flops:
            raise UserError(
                f"{self.name} has no figure for engine.dtype={dtype}; its datasheet has {', '.join(self.peak_flops)}"
            )
        return self.peak_flops[dtype]


def device_names() -> list[str]:
    """The devices that come with spinbench."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_device(name: str) -> DeviceSpec:
    """A device by its name, or from a YAML file of one's own. Raises UserError naming the file and key."""
    path = FOLDER / f"{name}.yaml" if name in device_names() else Path(name).expanduser()
    known = ", ".join(device_names())
    content = read_yaml(path, f"device is {name!r}; it must be this_machine, {known}, or a YAML file of that form")
    try:
        return DeviceSpec.model_validate(content)
    except ValidationError as error:
        raise error_in(path, error) from error
