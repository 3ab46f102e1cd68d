"""A profile whose timings come from a known cost model, and the meta file of two models and four drafters."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from spinbench.calibration.fitting.score import pass_s
from spinbench.calibration.profile.device_meta import DeviceMeta
from spinbench.calibration.profile.job_plan import job_groups
from spinbench.calibration.profile.meta import (
    FORMAT,
    DrafterMeta,
    LimitsMeta,
    ModelMeta,
    ProfileMeta,
    RowsMeta,
    SamplingMeta,
)
from spinbench.calibration.profile.plan import ProfileLimits, pass_points
from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import Profile, ProfileTables
from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import GapCost, JobCost
from spinbench.control.costs.model_cost import DrafterCost, ModelCost
from spinbench.control.layout.plan import LayoutKind

LIMITS = ProfileLimits(max_num_seqs=4, max_context_tokens=256, max_num_batched_tokens=256, max_num_speculative_tokens=4)
DRAFTERS = (
    DrafterMeta(name="small", kind="model", model="small"),
    DrafterMeta(name="prompt_lookup", kind="prompt_lookup", model=None),
    DrafterMeta(name="small+prompt_lookup", kind="lookup_then_model", model="small"),
    DrafterMeta(name="tiny", kind="model", model="tiny"),
)
LAYOUTS: list[LayoutKind] = list(get_args(LayoutKind))
NAMES = tuple(drafter.name for drafter in DRAFTERS)
LOOKUP = JobCost(0.0, 3e-5, 1e-5, 0.0)


RECTANGLES: dict[LayoutKind, RectangleAttention] = {
    "padded": RectangleAttention(3e-4, 5e-5, 1e-6, 4e-7, 2e-7),
    "grouped": RectangleAttention(2e-4, 6e-5, 2e-6, 4e-7, 2e-7, 1e-4, 3e-6),
    "decomposed": RectangleAttention(2e-4, 6e-5, 2e-6, 4e-7, 2e-7, 1e-4, 3e-6),
}


def _model(name: str, scale: float) -> ModelCost:
    return ModelCost(
        name=name,
        # a bend at 16 rows, where a knot lies
        forward=Curve((1, 16, 256), (scale * 1e-3, scale * 4e-3, scale * 40e-3)),
        head=Curve((1, 20), (0.0, scale * 1.9e-3)),
        ragged=RaggedAttention(
            *[scale * x for x in (2e-4, 1e-4, 1e-6, 5e-5, 2e-6, 3e-7)],
            whole=Curve((16, 128, 256), (scale * 5e-5, scale * 4e-3, scale * 15e-3)),
        ),
        rectangle=RECTANGLES if name == "target" else {},
        max_num_requests=LIMITS.max_num_seqs,
        max_context_tokens=LIMITS.max_context_tokens,
    )


def true_costs() -> CostModel:
    """The costs that the made profile is timed with."""
    models = {name: _model(name, scale) for name, scale in (("target", 1.0), ("small", 0.2), ("tiny", 0.1))}
    catch_up, draft = JobCost(1.0, 1e-4, 2e-5, 0.0), JobCost(1.0, 2e-4, 3e-5, 4e-5)
    return CostModel(
        target=models["target"],
        drafters=tuple(
            DrafterCost(
                name=drafter.name,
                model=models[drafter.model] if drafter.model else None,
                catch_up=catch_up if drafter.model else None,
                draft=draft if drafter.model else None,
                lookup=LOOKUP if drafter.kind != "model" else None,
            )
            for drafter in DRAFTERS
        ),
        prefill=JobCost(1.0, 3e-4, 5e-5, 0.0),
        verify={kind: JobCost(1.0, 1e-4 * (place + 1), 4e-5, 0.0) for place, kind in enumerate(LAYOUTS)},
        gaps={"verify": GapCost(1e-4, 2e-5), "draft": GapCost(5e-5, 1e-5), "prefill": GapCost(2e-4, 3e-5)},
    )


def exactly(seconds: float) -> Timing:
    """Repeats that agree."""
    return Timing(3, seconds, seconds, seconds, seconds)


def meta(tables: ProfileTables) -> ProfileMeta:
    """What goes with the tables."""
    return ProfileMeta(
        format=FORMAT,
        kind="measured",
        device=DeviceMeta(name="made up", type="cpu", memory_bytes=10**9, count=1, num_threads=2, driver=None),
        dtype="float32",
        sampling=SamplingMeta(temperature=0.0, top_p=1.0, top_k=0),
        limits=LimitsMeta(
            max_num_seqs=4, max_context_tokens=256, max_num_batched_tokens=256, max_num_speculative_tokens=4
        ),
        target="target",
        models=tuple(
            ModelMeta(
                name=name,
                sha256=digit * 64,
                macs_per_token=size,
                weights_bytes=4 * size,
                kv_bytes_per_token=1000 * size,
            )
            for name, digit, size in (("target", "a", 100), ("small", "b", 20), ("tiny", "c", 10))
        ),
        drafters=DRAFTERS,
        num_rows=RowsMeta(passes=len(tables.passes), jobs=len(tables.jobs), host=len(tables.gaps)),
        versions={"python": "3.11"},
        git_commit=None,
        created="2026-01-01T00:00:00Z",
        command="spinbench profile",
        assumptions={},
    )


def made_profile(
    noise: Callable[[PassPoint | JobPoint | GapPoint], float] = lambda point: 1.0, costs: CostModel | None = None
) -> Profile:
    """Every point takes what `costs` says, times `noise`."""
    costs = costs or true_costs()
    models = {cost.name: cost for cost in [costs.target, *(d.model for d in costs.drafters if d.model is not None)]}
    places = {drafter.name: place for place, drafter in enumerate(costs.drafters)}
    passes = [
        (point, exactly(pass_s(models[name], point) * noise(point)))
        for name in models
        for point in pass_points(name, name == "target", LAYOUTS, LIMITS)
    ]
    jobs = [
        (point, exactly(costs.job_s(point.job(places.get(point.lane, 0))) * noise(point)))
        for point in (job for group in job_groups(DRAFTERS, LAYOUTS, LIMITS) for job in group.jobs)
    ]
    gaps = [
        (point, exactly((gap.gap_s + gap.request_s * point.num_requests) * noise(point)))
        for kind, gap in costs.gaps.items()
        for point in (GapPoint(kind, "verify", count) for count in (1, 2, 4))
    ]
    # fetching the next draft from the queue: no decision
    gaps.append((GapPoint("draft", "draft", 1), exactly(1e-6)))
    tables = ProfileTables(tuple(passes), tuple(jobs), tuple(gaps))
    return Profile(meta(tables), tables, "made")


def retimed(profile: Profile, factor: Callable[[PassPoint | JobPoint], float]) -> Profile:
    """The same profile with every pass and job so many times as long."""
    tables = profile.tables
    return replace(
        profile,
        tables=replace(
            tables,
            passes=tuple((point, exactly(timing.median_s * factor(point))) for point, timing in tables.passes),
            jobs=tuple((point, exactly(timing.median_s * factor(point))) for point, timing in tables.jobs),
        ),
    )
