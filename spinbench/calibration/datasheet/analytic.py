"""A profile that nobody measured: a roofline over a datasheet's figures, in the same tables as a measured one.

A pass takes, for the linear layers, attention and logits each, the longer of its arithmetic (FLOPs over peak times
`compute_efficiency`) and its memory traffic (bytes over bandwidth times `memory_efficiency`), plus what launching its
kernels costs. Attention is one kernel per layer over all requests, or over each rectangle, and one more that merges
pieces; it may be slower than that by a stated factor. Under tensor parallelism every GPU does its share, and
two all-reduces a layer put the results together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinbench.calibration.datasheet.device import BYTES, DeviceSpec
from spinbench.calibration.profile.job_plan import job_groups
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import ProfileLimits, pass_points
from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import ProfileTables
from spinbench.control.costs.job_cost import JobKind
from spinbench.control.costs.job_shape import PassShape, job_passes
from spinbench.control.jobs.job import VerifyJob
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.layout.plan import LayoutKind
from spinbench.models.model_shape import ModelShape

FLOPS_PER_MAC = 2
MACS_PER_CELL = 2
"""Per head and head dimension: the score, and the weighted value."""
LOGIT_BYTES = 4
PARTIAL_BYTES = 4
"""Of a value that pieces of a request leave to the merge: written once, read once, by one kernel more."""
GAPS: tuple[tuple[JobKind, JobKind], ...] = (
    ("prefill", "draft"),
    ("prefill", "verify"),
    ("verify", "draft"),
    ("verify", "verify"),
    ("draft", "verify"),
)
"""Pairs of jobs that the gap is stated for; others take the same."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Predicts passes of one model."""

    device: DeviceSpec
    shape: ModelShape
    dtype: str
    tensor_parallel: int = 1

    def pass_s(self, work: PassShape) -> float:
        """Seconds of one forward pass, its logits and the choice of tokens."""
        device, shape, size = self.device, self.shape, BYTES[self.dtype]
        width = shape.hidden_size * size
        # activations in and out of the blocks' linear layers, roughly four times the width each
        linear_s = self._longer_s(
            shape.layer_macs * work.num_tokens,
            shape.layer_macs * size + 8 * shape.num_layers * width * work.num_tokens,
        )
        attention_s = self._longer_s(
            MACS_PER_CELL * shape.num_layers * shape.num_heads * shape.head_dim * work.num_cells,
            shape.kv_bytes_per_token(size) * (work.num_keys + work.num_tokens),
        )
        merge_s = self._longer_s(
            0, 2 * PARTIAL_BYTES * shape.num_layers * shape.num_heads * shape.head_dim * work.num_merged_rows
        )
        attention_s = attention_s / self.device.attention_efficiency + merge_s
        head_s = self._longer_s(
            shape.head_macs * work.num_head_rows,
            shape.head_macs * size + 2 * LOGIT_BYTES * shape.vocab_size * work.num_head_rows,
        )
        kernels_per_layer = device.kernels_per_layer + work.num_attention_calls - 1 + (work.num_merged_rows > 0)
        launches_s = (kernels_per_layer * shape.num_layers + 4) * device.kernel_launch_s
        return linear_s + attention_s + head_s + launches_s + self._all_reduces_s(work.num_tokens * width)

    def _longer_s(self, macs: float, num_bytes: float) -> float:
        device = self.device
        compute_s = FLOPS_PER_MAC * macs / (device.flops(self.dtype) * device.compute_efficiency)
        memory_s = num_bytes / (device.memory_bandwidth_bytes_per_s * device.memory_efficiency)
        return max(compute_s, memory_s) / self.tensor_parallel

    def _all_reduces_s(self, num_bytes: float) -> float:
        """Two a layer; a ring moves 2 (n - 1) / n of the bytes through each GPU."""
        count = self.tensor_parallel
        if count == 1:
            return 0.0
        one_way = self.device.link_bytes_per_s / 2
        return 2 * self.shape.num_layers * (self.device.collective_s + 2 * (count - 1) / count * num_bytes / one_way)


def analytic_profile(
    device: DeviceSpec,
    target: ModelShape,
    drafters: Sequence[DrafterMeta],
    shapes: Mapping[str, ModelShape],
    *,
    dtype: str,
    limits: ProfileLimits,
    layouts: Sequence[LayoutKind],
    tensor_parallel: int = 1,
) -> ProfileTables:
    """The three tables for a target on `tensor_parallel` devices, and each drafter on one; `shapes` are by model name.

    Raises UserError for a dtype that the datasheet has no figure for.
    """
    rooflines = {name: Roofline(device, shape, dtype) for name, shape in shapes.items()}
    rooflines[target.name] = Roofline(device, target, dtype, tensor_parallel)
    passes = [
        (point, _exactly(rooflines[name].pass_s(pass_shape(point))))
        for name in rooflines
        for point in pass_points(name, name == target.name, layouts, limits)
    ]
    model_of = {drafter.name: drafter.model for drafter in drafters} | {TARGET_LANE: target.name}
    jobs = []
    for point in (job for group in job_groups(drafters, layouts, limits) for job in group.jobs):
        model = model_of[point.lane]
        jobs.append((point, _exactly(_job_s(device, point, rooflines[model] if model is not None else None))))
    gaps = [(GapPoint(before, after, 1), _exactly(device.gap_s)) for before, after in GAPS if device.gap_s > 0]
    return ProfileTables(tuple(passes), tuple(jobs), tuple(gaps))


def pass_shape(point: PassPoint) -> PassShape:
    """How large a pass is. Without attention it has neither cells nor keys."""
    count = len(point.stop_tokens)
    if point.attention == "none":
        return PassShape(count, point.num_rows, 0, 0, point.num_head_rows)
    (work,) = job_passes(VerifyJob(point.spans, point.plan))
    return work._replace(num_head_rows=point.num_head_rows)


def _job_s(device: DeviceSpec, point: JobPoint, roofline: Roofline | None) -> float:
    passes = job_passes(point.job())
    host_s = device.host_job_s + device.host_request_s * len(point.stop_tokens) + device.host_pass_s * len(passes)
    if roofline is None:
        return host_s
    return host_s + sum(roofline.pass_s(work) for work in passes)


def _exactly(seconds: float) -> Timing:
    return Timing(1, seconds, seconds, seconds, seconds)
