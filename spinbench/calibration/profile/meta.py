"""What `meta.yaml` says of a profile: device, models, versions, limits; and whether it fits a run."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from spinbench.calibration.profile.device_meta import Count, DeviceMeta, MetaSection, Name, Positive
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.errors import UserError
from spinbench.workload.acceptance.drafter_name import DrafterKind
from spinbench.workload.sampling_kind import SamplingKind

FORMAT = 1
"""Version of the folder's layout."""


class ModelMeta(MetaSection):
    """One model with weights."""

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    """Of its weights; None for a shape without any."""
    macs_per_token: Count
    """Multiply-adds of all linear layers for one token, head included."""
    weights_bytes: Count
    kv_bytes_per_token: Positive


class DrafterMeta(MetaSection):
    """One drafter."""

    name: Name
    kind: DrafterKind
    model: str | None
    """Which of the models drafts; None for prompt lookup and n-gram tables."""

    @property
    def asks_ngrams(self) -> bool:
        """Whether it drafts from an n-gram table where it does not copy."""
        return DrafterInfo(self.name, self.kind).asks_ngrams

    @property
    def copies(self) -> bool:
        """Whether it copies where it can."""
        return DrafterInfo(self.name, self.kind).copies


class SamplingMeta(MetaSection):
    """How tokens were drawn: part of the cost of every row of logits."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: float
    top_k: int
    kind: SamplingKind = "drafter_invariant"
    """The default is for profiles from before there were kinds."""


class LimitsMeta(MetaSection):
    """How far the profile reaches."""

    max_num_seqs: Positive
    max_context_tokens: Positive
    max_num_batched_tokens: Positive
    max_num_speculative_tokens: Positive

    @property
    def of_plan(self) -> ProfileLimits:
        """The limits that the profile's points were drawn within."""
        return ProfileLimits(**self.model_dump())


class DidNotFitMeta(MetaSection):
    """What there was too little memory for: it is not in the tables."""

    points: Positive
    """Passes, jobs and batches of the serving loop."""
    max_num_seqs: Count
    """Requests of the largest draft, catch-up, verification and loop that fitted, below the smallest that did not."""
    max_num_batched_tokens: Count
    """Tokens of the largest prefill that fitted, likewise. Both are the profile's limits where none was left out."""


class RowsMeta(MetaSection):
    """Rows of each table, so that a cut file is noticed."""

    passes: Positive
    jobs: Positive
    host: Count


class ProfileMeta(MetaSection):
    """Everything but the timings."""

    format: Literal[1]
    kind: Literal["measured", "analytic"]
    """`analytic`: estimated from a datasheet. Reports label what was predicted with it."""
    device: DeviceMeta
    dtype: Literal["float16", "bfloat16", "float32", "float64"]
    sampling: SamplingMeta
    limits: LimitsMeta
    target: Name
    """Which of the models is served."""
    models: tuple[ModelMeta, ...]
    drafters: tuple[DrafterMeta, ...]
    num_rows: RowsMeta
    versions: Mapping[str, str]
    git_commit: str | None
    created: str
    command: str
    assumptions: Mapping[str, Any]
    """Of an analytic profile: the datasheet's figures with their sources, and the efficiencies. Else empty."""
    did_not_fit: DidNotFitMeta | None = None
    """None = everything had memory enough."""

    @model_validator(mode="after")
    def _consistent(self) -> "ProfileMeta":
        names = [model.name for model in self.models]
        for name in (self.target, *(drafter.model for drafter in self.drafters if drafter.model is not None)):
            if name not in names:
                raise ValueError(f"model {name!r} is not among models")
        for group in (names, [drafter.name for drafter in self.drafters]):
            if len(set(group)) < len(group):
                raise ValueError("a name is there twice")
        return self

    @property
    def max_num_seqs(self) -> int:
        """Requests of the largest batch that the profile knows."""
        return self.limits.max_num_seqs if self.did_not_fit is None else self.did_not_fit.max_num_seqs

    def model(self, name: str) -> ModelMeta:
        """A model by name."""
        return next(model for model in self.models if model.name == name)

    def drafter(self, name: str) -> DrafterMeta:
        """A drafter by name. Raises UserError naming those that were profiled."""
        for drafter in self.drafters:
            if drafter.name == name:
                return drafter
        known = ", ".join(drafter.name for drafter in self.drafters) or "none"
        raise UserError(f"the profile has no drafter {name!r}; it has {known}")

    def kv_capacity_tokens(self, models: Iterable[str], memory_utilization: float = 0.9) -> int:
        """Tokens whose KV fits beside the weights, all of `models` on the profile's device.

        `memory_utilization` is the share of the memory that a server takes (vLLM's `gpu_memory_utilization`). Raises
        UserError when the weights alone do not fit.
        """
        found = [self.model(name) for name in dict.fromkeys(models)]
        weights = sum(model.weights_bytes for model in found)
        free = self.device.memory_bytes * memory_utilization - weights
        if free <= 0:
            raise UserError(
                f"{self.device.name} has {self.device.memory_bytes / 1e9:.1f} GB, and the weights take "
                f"{weights / 1e9:.1f} GB; take fewer or smaller models, or more devices"
            )
        return int(free / sum(model.kv_bytes_per_token for model in found))


def check_fits(
    meta: ProfileMeta,
    source: str,
    *,
    dtype: str,
    target: str,
    drafters: Iterable[DrafterInfo],
    sha256: Mapping[str, str],
) -> None:
    """Raise UserError unless the profile `source` is of this run's dtype, target and drafters.

    `sha256` has the weights' digests by model name, as far as they are known; a profiled model without one (a shape)
    fits any.
    """
    if meta.dtype != dtype:
        raise UserError(f"{source}: profiled in {meta.dtype}, the run is in {dtype}; profile with engine.dtype={dtype}")
    if meta.target != target:
        raise UserError(f"{source}: profiled with target {meta.target!r}, the run's is {target!r}")
    for drafter in drafters:
        try:
            profiled = meta.drafter(drafter.name)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        if profiled.kind != drafter.kind:
            raise UserError(
                f"{source}: drafter {drafter.name!r} is a {profiled.kind} in the profile, a {drafter.kind} here"
            )
    for model in meta.models:
        wanted = sha256.get(model.name)
        if wanted is not None and model.sha256 is not None and wanted != model.sha256:
            raise UserError(
                f"{source}: {model.name} was profiled with weights {model.sha256[:12]}, the run's are {wanted[:12]}"
            )
