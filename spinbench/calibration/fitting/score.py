"""How well a profile's cost model predicts what it was not fitted on."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.fitting.interruptions import lengthening
from spinbench.calibration.profile.point import PassPoint, Timing
from spinbench.calibration.profile.profile_file import Profile, write_table
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.model_cost import ModelCost

SCORES_FILE = "scores.csv"


@dataclass(frozen=True, slots=True)
class Score:
    """Errors over the held-out points of one kind; percentages of the measured median."""

    what: str
    """`job`, or `pass` for a single forward pass."""
    kind: str
    """Of the jobs; for passes, how they attend."""
    lane: str
    """Lane of the jobs (`all` = every lane); for passes, the model."""
    num_points: int
    mape_percent: float
    """Mean absolute percentage error."""
    p90_percent: float
    """Nine of ten points have at most this error."""
    bias_percent: float
    """Mean signed error: above 0 = predicted too long."""
    noise_percent: float
    """Half of what the middle 80 % of a point's repeats span, in the mean: the measurement's own spread."""
    floor_percent: float
    """What a perfect prediction would have for a mean absolute error, the medians being as unsure as their repeats make
    them: sqrt(2 / pi) standard errors, in the mean. Infinite where a point was timed once."""


def score_profile(profile: Profile) -> list[Score]:
    """Scores of every job kind, over all lanes and lane by lane, and of passes. Raises UserError as fitting does."""
    model = fit_cost_model(profile, [drafter.name for drafter in profile.meta.drafters])
    return [*_job_scores(profile, model), *_pass_scores(profile, model)]


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Leave `scores.csv` in a profile's folder. Raises UserError if it cannot be written."""
    columns = [field.name for field in fields(Score)]
    rows = [
        {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in asdict(score).items()}
        for score in scores
    ]
    write_table(folder / SCORES_FILE, columns, rows)


def _job_scores(profile: Profile, model: CostModel) -> list[Score]:
    places = {drafter.name: place for place, drafter in enumerate(model.drafters)}
    groups: dict[tuple[str, str], list[tuple[float, Timing]]] = defaultdict(list)
    longer = lengthening(profile.tables.jobs)
    for point, timing in profile.tables.jobs:
        if point.role == "held_out":
            # a point's own mean is too unsure to hold a prediction against; its median is not
            predicted_s = model.job_s(point.job(places.get(point.lane, 0))) / longer[point.kind]
            lane = f"{point.lane} {point.layout}".strip()
            groups[point.kind, lane].append((predicted_s, timing))
            groups[point.kind, "all"].append((predicted_s, timing))
    order = sorted(groups, key=lambda group: (group[0], group[1] != "all", group[1]))
    return [_score("job", kind, lane, groups[kind, lane]) for kind, lane in order]


def _pass_scores(profile: Profile, model: CostModel) -> list[Score]:
    models = {cost.name: cost for cost in [model.target, *(d.model for d in model.drafters if d.model is not None)]}
    groups: dict[tuple[str, str], list[tuple[float, Timing]]] = defaultdict(list)
    for point, timing in profile.tables.passes:
        if point.role == "held_out" and point.model in models:
            groups[point.attention, point.model].append((pass_s(models[point.model], point), timing))
    return [_score("pass", kind, lane, groups[kind, lane]) for kind, lane in sorted(groups)]


def pass_s(model: ModelCost, point: PassPoint) -> float:
    """What the model predicts for a pass by itself."""
    rows_s = model.forward.of(point.num_rows) + model.head.of(point.num_head_rows)
    if point.attention == "none":
        return rows_s
    if point.attention == "packed":
        return rows_s + model.ragged.pass_s + model.ragged.requests_s(point.start_tokens, point.stop_tokens)
    return rows_s + model.rectangle[point.attention].of(point.plan.shape)


def _score(what: str, kind: str, lane: str, pairs: Sequence[tuple[float, Timing]]) -> Score:
    predicted = np.array([seconds for seconds, _ in pairs])
    median, p10, p90 = (np.array([getattr(t, name) for _, t in pairs]) for name in ("median_s", "p10_s", "p90_s"))
    error = 100 * (predicted - median) / median
    return Score(
        what=what,
        kind=kind,
        lane=lane,
        num_points=len(pairs),
        mape_percent=float(np.abs(error).mean()),
        p90_percent=float(np.percentile(np.abs(error), 90)),
        bias_percent=float(error.mean()),
        noise_percent=float((50 * (p90 - p10) / median).mean()),
        floor_percent=float(100 * math.sqrt(2 / math.pi) * np.mean([t.standard_error for _, t in pairs])),
    )
