"""From a profile's timings to a cost model. Only rows of role `fit` are used; the others are for the score."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from spinbench.calibration.fitting.interruptions import lengthened, lengthening, mean_over_median
from spinbench.calibration.fitting.job_fit import fit_jobs
from spinbench.calibration.fitting.least_squares import relative_nnls
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import FIT
from spinbench.calibration.profile.point import GapPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import PASSES_FILE, Profile
from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention, rising
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import GapCost, JobCost, JobKind
from spinbench.control.costs.model_cost import DrafterCost, ModelCost
from spinbench.control.costs.overlap import NOT_SLOWED
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError

AS_PASSES = JobCost(1.0, 0.0, 0.0, 0.0)
"""A job that takes as long as its passes."""
NOTHING = JobCost(0.0, 0.0, 0.0, 0.0)

Timed = Sequence[tuple[PassPoint, Timing]]


def fit_cost_model(profile: Profile, drafters: Sequence[str]) -> CostModel:
    """The cost model of a run with these drafters, in their order.

    It is fitted to all that the profile holds, whichever drafters are asked for. Raises UserError when one of them is
    not in the profile, or the profile lacks the rows for a part of the model.
    """
    for name in drafters:
        profile.meta.drafter(name)
    models = {model.name: _model_cost(model.name, profile) for model in profile.meta.models}
    target = models[profile.meta.target]
    layouts: list[LayoutKind] = ["packed", *target.rectangle]
    by_itself = CostModel(
        target=target,
        drafters=tuple(_as_passes(drafter, models) for drafter in profile.meta.drafters),
        prefill=AS_PASSES,
        verify=dict.fromkeys(layouts, AS_PASSES),
        gaps={},
    )
    whole = lengthened(fit_jobs(profile, by_itself, layouts), lengthening(profile.tables.jobs))
    places = {drafter.name: place for place, drafter in enumerate(profile.meta.drafters)}
    return replace(
        _with_grouped(whole),
        drafters=tuple(whole.drafters[places[name]] for name in drafters),
        gaps=_gaps(profile.tables.gaps),
        overlap=overlap.factors if (overlap := profile.meta.device.overlap) else NOT_SLOWED,
    )


def _with_grouped(costs: CostModel) -> CostModel:
    """Where groups were not timed they follow from `padded`: several rectangles of the same kind, one after another.

    `decomposed` does not follow: nothing of `padded` tells what merging costs.
    """
    law = costs.target.rectangle.get("padded")
    if law is None or "grouped" in costs.target.rectangle:
        return costs
    target = replace(costs.target, rectangle={**costs.target.rectangle, "grouped": law})
    return replace(costs, target=target, verify={**costs.verify, "grouped": costs.verify["padded"]})


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

    return ModelCost(
        name=name,
        forward=forward,
        head=head,
        ragged=_ragged(attending["packed"], attention_s, where, name),
        rectangle=_rectangle_laws(attending, attention_s),
        max_num_requests=profile.meta.max_num_seqs,
        max_context_tokens=profile.meta.limits.max_context_tokens,
    )


def _rectangle_laws(
    attending: Mapping[str, Timed], attention_s: Callable[[PassPoint, Timing], float]
) -> dict[LayoutKind, RectangleAttention]:
    """Of each layout that was timed.

    Groups and pieces are run by the same code, so that one law is fitted to both: groups tell what a further rectangle
    costs, pieces what merging does.
    """
    laws: dict[LayoutKind, RectangleAttention] = {}
    together: tuple[LayoutKind, ...] = ("grouped", "decomposed")
    alone: tuple[LayoutKind, ...] = ("padded",)
    for layouts in (alone, together):
        rows = [row for layout in layouts for row in attending.get(layout, ())]
        if rows:
            law = RectangleAttention(*_coefficients(rows, rectangle_features, attention_s))
            laws |= {layout: law for layout in layouts if attending.get(layout)}
    return laws


def _ragged(rows: Timed, attention_s: Callable[[PassPoint, Timing], float], where: str, name: str) -> RaggedAttention:
    """Decoding and extending first; then, with what a pass and a request cost, whole contexts of a single request."""
    behind = [(p, t) for p, t in rows if all(start or stop == 1 for start, stop in _spans(p))]
    whole = [(p, t) for p, t in rows if len(p.stop_tokens) == 1 and p.start_tokens[0] == 0 and p.stop_tokens[0] > 1]
    if not (behind and whole):
        kind = "behind a context" if whole else "from the first token on"
        raise UserError(f"{where}: no rows of model {name!r} with attention packed and role fit {kind}")
    coefficients = _coefficients(behind, ragged_features, attention_s)
    pass_s, request_s, *_ = coefficients
    whole_s = {p.stop_tokens[0]: max(0.0, attention_s(p, t) - pass_s - request_s) for p, t in whole}
    passes_s = {p.stop_tokens[0]: t.median_s for p, t in whole}
    counts = sorted(whole_s)
    risen = rising([whole_s[count] for count in counts], [passes_s[count] ** -2 for count in counts])
    return RaggedAttention(*coefficients, whole=Curve(tuple(counts), tuple(risen)))


def ragged_features(point: PassPoint) -> list[float]:
    """What the coefficients of `RaggedAttention` are multiplied with, in their order; no request is a whole context."""
    features = np.zeros(6)
    features[0] = 1
    for start, stop in _spans(point):
        rows = stop - start
        features[1:3] += (1, stop)
        if rows > 1:
            features[3:6] += (1, rows - 1, (rows - 1) * stop)
    return features.tolist()


def _spans(point: PassPoint) -> list[tuple[int, int]]:
    return list(zip(point.start_tokens, point.stop_tokens, strict=True))


def rectangle_features(point: PassPoint) -> list[float]:
    """What the coefficients of `RectangleAttention` are multiplied with, in their order."""
    return [float(amount) for amount in point.plan.shape]


def _coefficients(
    rows: Timed, features: Callable[[PassPoint], list[float]], seconds: Callable[[PassPoint, Timing], float]
) -> list[float]:
    """Non-negative least squares of `seconds`, errors relative to the whole pass."""
    return relative_nnls(
        [features(point) for point, _ in rows],
        [seconds(point, timing) for point, timing in rows],
        [timing.median_s for _, timing in rows],
    )


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
    of_draft = NOTHING if drafter.asks_ngrams else of_model
    return DrafterCost(drafter.name, model, of_model, of_draft, NOTHING if drafter.copies else None)


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
        usual = relative_nnls([[1.0, n] for n, _ in found], [t.median_s for _, t in found], scale)
        longer = mean_over_median([timing for _, timing in found])
        gaps[kind] = GapCost(*(longer * value for value in usual))
    return gaps
