"""From a profile's timings to a cost model. Only rows of role `fit` are used; the others are for the score."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from spinbench.calibration.meta import DrafterMeta
from spinbench.calibration.plan import FIT
from spinbench.calibration.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile_file import JOBS_FILE, PASSES_FILE, Profile
from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention, rising
from spinbench.control.cost_model import CostModel, DrafterCost, GapCost, JobCost, JobKind, ModelCost
from spinbench.control.lane_name import TARGET_LANE
from spinbench.control.layout import LayoutKind
from spinbench.errors import UserError

AS_PASSES = JobCost(1.0, 0.0, 0.0, 0.0)
"""A job that takes as long as its passes."""
NOTHING = JobCost(0.0, 0.0, 0.0, 0.0)

Timed = Sequence[tuple[PassPoint, Timing]]
JobRows = Sequence[tuple[JobPoint, Timing]]


def fit_cost_model(profile: Profile, drafters: Sequence[str]) -> CostModel:
    """The cost model of a run with these drafters, in their order.

    Raises UserError when one of them is not in the profile, or the profile lacks the rows for a part of the model.
    """
    chosen = [profile.meta.drafter(name) for name in drafters]
    models = {
        name: _model_cost(name, profile)
        for name in dict.fromkeys([profile.meta.target, *(d.model for d in chosen if d.model is not None)])
    }
    target = models[profile.meta.target]
    layouts: list[LayoutKind] = ["packed", *target.rectangle]
    by_itself = CostModel(
        target=target,
        drafters=tuple(_as_passes(drafter, models) for drafter in chosen),
        prefill=AS_PASSES,
        verify=dict.fromkeys(layouts, AS_PASSES),
        gaps={},
    )
    jobs = [(point, timing) for point, timing in profile.tables.jobs if point.role == FIT]
    fit = _JobFit(profile.source, by_itself)
    return CostModel(
        target=target,
        drafters=tuple(fit.drafter(place, drafter, profile, jobs) for place, drafter in enumerate(chosen)),
        prefill=fit.target_job(jobs, "prefill", ""),
        verify={layout: fit.target_job(jobs, "verify", layout) for layout in layouts},
        gaps=_gaps(profile.tables.gaps),
    )


def _model_cost(name: str, profile: Profile) -> ModelCost:
    mine = [(point, timing) for point, timing in profile.tables.passes if point.model == name and point.role == FIT]
    without = [(point, timing) for point, timing in mine if point.attention == "none"]
    where = f"{profile.source}/{PASSES_FILE}"
    forward = _curve(
        {point.num_rows: timing.median_s for point, timing in without if point.num_head_rows == 1},
        f"{where}: no rows of model {name!r} with attention none, num_head_rows 1 and role fit",
    )
    head_s = {1: 0.0}
    for point, timing in without:
        if point.num_head_rows > 1:
            head_s[point.num_head_rows] = max(0.0, timing.median_s - forward.of(point.num_rows))
    head = Curve(tuple(sorted(head_s)), tuple(_rising_s(head_s, forward.seconds[0])))
    attending: dict[str, list[tuple[PassPoint, Timing]]] = defaultdict(list)
    for point, timing in mine:
        attending[point.attention].append((point, timing))
    if not attending["packed"]:
        raise UserError(f"{where}: no rows of model {name!r} with attention packed and role fit")

    def attention_s(point: PassPoint, timing: Timing) -> float:
        return timing.median_s - forward.of(point.num_rows) - head.of(point.num_head_rows)

    limits = profile.meta.limits
    return ModelCost(
        name=name,
        forward=forward,
        head=head,
        ragged=RaggedAttention(*_coefficients(attending["packed"], ragged_features, attention_s)),
        rectangle={
            layout: RectangleAttention(*_coefficients(rows, rectangle_features, attention_s))
            for layout, rows in attending.items()
            if layout not in ("none", "packed")
        },  # type: ignore[arg-type]
        max_num_requests=limits.max_num_seqs,
        max_context_tokens=limits.max_context_tokens,
    )


def ragged_features(point: PassPoint) -> list[float]:
    """What the coefficients of `RaggedAttention` are multiplied with, in their order."""
    features = np.zeros(9)
    features[0] = 1
    for start, stop in zip(point.start_tokens, point.stop_tokens, strict=True):
        rows = stop - start
        features[1] += 1
        if rows == 1:
            features[2] += stop
        elif start:
            features[2:6] += (stop, 1, rows - 1, (rows - 1) * stop)
        else:
            features[6:9] += (1, rows, rows * rows)
    return features.tolist()


def rectangle_features(point: PassPoint) -> list[float]:
    """What the coefficients of `RectangleAttention` are multiplied with, in their order."""
    count, longest = len(point.stop_tokens), max(point.stop_tokens)
    return [1, count, point.num_rows, count * longest, point.num_rows * longest]


def _coefficients(
    rows: Timed, features: Callable[[PassPoint], list[float]], seconds: Callable[[PassPoint, Timing], float]
) -> list[float]:
    """Non-negative least squares of `seconds`, errors relative to the whole pass."""
    return relative_nnls(
        [features(point) for point, _ in rows],
        [seconds(point, timing) for point, timing in rows],
        [timing.median_s for _, timing in rows],
    )


def relative_nnls(features: Sequence[Sequence[float]], values: Sequence[float], scale: Sequence[float]) -> list[float]:
    """Coefficients >= 0 that minimise the sum of ((features @ coefficients - values) / scale) ** 2."""
    matrix = np.array(features, float) / np.array(scale, float)[:, None]
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    solved, _ = nnls(matrix / size, np.array(values, float) / np.array(scale, float))
    return (solved / size).tolist()


def _curve(seconds: Mapping[int, float], nothing: str) -> Curve:
    if not seconds:
        raise UserError(nothing)
    return Curve(tuple(sorted(seconds)), tuple(_rising_s(seconds, 0.0)))


def _rising_s(seconds: Mapping[int, float], beside_s: float) -> list[float]:
    """By rising count, never falling, relative errors least; `beside_s` is what the pass takes besides."""
    ordered = [seconds[count] for count in sorted(seconds)]
    return rising(ordered, [(value + beside_s) ** -2 for value in ordered])


def _as_passes(drafter: DrafterMeta, models: Mapping[str, ModelCost]) -> DrafterCost:
    model = models[drafter.model] if drafter.model is not None else None
    of_model = AS_PASSES if model is not None else None
    return DrafterCost(drafter.name, model, of_model, of_model, NOTHING if drafter.kind != "model" else None)


class _JobFit:
    """Fits what jobs cost beside their passes, lane by lane."""

    def __init__(self, source: str, by_itself: CostModel) -> None:
        self._where = f"{source}/{JOBS_FILE}"
        self._by_itself = by_itself

    def target_job(self, jobs: JobRows, kind: JobKind, layout: LayoutKind | Literal[""]) -> JobCost:
        """Of the target's jobs of a kind (and layout)."""
        rows = [(p, t) for p, t in jobs if p.kind == kind and p.lane == TARGET_LANE and p.layout == layout]
        return self._one_pass(rows, 0, f"{layout} {kind}".strip())

    def drafter(self, place: int, drafter: DrafterMeta, profile: Profile, jobs: JobRows) -> DrafterCost:
        """Of one drafter's lane."""
        cost = self._by_itself.drafters[place]
        catch_up = None
        if drafter.model is not None:
            # timed on the lane of whoever has the same model; the job is the same
            lanes = [other.name for other in profile.meta.drafters if other.model == drafter.model]
            rows = [(point, timing) for point, timing in jobs if point.kind == "catch_up" and point.lane in lanes]
            catch_up = self._one_pass(rows, place, f"catch_up of {drafter.model}")
        mine = [(point, timing) for point, timing in jobs if point.kind == "draft" and point.lane == drafter.name]
        if not mine:
            raise UserError(f"{self._where}: no draft rows of lane {drafter.name!r} with role fit")
        features = [self._draft_features(point, place) for point, _ in mine]
        seconds = [timing.median_s for _, timing in mine]
        factor, job, request, step, lookup_job, lookup_request = relative_nnls(features, seconds, seconds)
        return replace(
            cost,
            catch_up=catch_up,
            draft=JobCost(factor, job, request, step) if cost.draft is not None else None,
            lookup=JobCost(0.0, lookup_job, lookup_request, 0.0) if cost.lookup is not None else None,
        )

    def _one_pass(self, rows: JobRows, place: int, what: str) -> JobCost:
        """Jobs of one pass each: factor, per job, per request."""
        if not rows:
            raise UserError(f"{self._where}: no {what} rows with role fit")
        features = [[self._by_itself.job_s(point.job(place)), 1.0, len(point.stop_tokens)] for point, _ in rows]
        seconds = [timing.median_s for _, timing in rows]
        factor, job, request = relative_nnls(features, seconds, seconds)
        return JobCost(factor, job, request, 0.0)

    def _draft_features(self, point: JobPoint, place: int) -> list[float]:
        """Passes, then for the model: any, requests, steps; then for the lookup: any, requests."""
        copied = sum(point.by_lookup)
        by_model = [k for k, copies in zip(point.num_speculative_tokens, point.by_lookup, strict=True) if not copies]
        passes_s = self._by_itself.job_s(point.job(place))
        return [passes_s, float(bool(by_model)), len(by_model), max(by_model, default=0), float(copied > 0), copied]


def _gaps(rows: Iterable[tuple[GapPoint, Timing]]) -> dict[JobKind, GapCost]:
    """What the loop decides after a job; a gap in which the next job was only fetched is no decision."""
    groups: dict[JobKind, list[tuple[int, Timing]]] = defaultdict(list)
    for point, timing in rows:
        if not point.was_waiting:
            groups[point.kind].append((point.num_requests, timing))
    gaps = {}
    for kind, found in groups.items():
        # a gap that came often counts more
        scale = [timing.median_s / timing.repeats**0.5 for _, timing in found]
        gaps[kind] = GapCost(*relative_nnls([[1.0, n] for n, _ in found], [t.median_s for _, t in found], scale))
    return gaps
