"""How much longer jobs take in the mean than usually: interruptions lengthen some, and shorten none."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from spinbench.calibration.profile.plan import FIT
from spinbench.calibration.profile.point import JobPoint, Timing
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import JobCost, JobKind


def mean_over_median(timings: Sequence[Timing]) -> float:
    """Of points alike, those with more repeats counting more. Raises ZeroDivisionError without one."""
    return sum(t.repeats * t.mean_s / t.median_s for t in timings) / sum(t.repeats for t in timings)


def lengthening(jobs: Iterable[tuple[JobPoint, Timing]]) -> dict[JobKind, float]:
    """Mean over median by kind, of the points of role `fit`: of a single point the mean is too unsure."""
    by_kind: dict[JobKind, list[Timing]] = defaultdict(list)
    for point, timing in jobs:
        if point.role == FIT:
            by_kind[point.kind].append(timing)
    return {kind: mean_over_median(timings) for kind, timings in by_kind.items()}


def lengthened(costs: CostModel, factors: Mapping[JobKind, float]) -> CostModel:
    """`costs`, fitted to medians, for the mean: runs are sums of jobs, and medians do not add up to them."""

    def scaled(kind: JobKind, cost: JobCost) -> JobCost:
        return JobCost(*(factors.get(kind, 1.0) * value for value in cost))

    return replace(
        costs,
        prefill=scaled("prefill", costs.prefill),
        verify={layout: scaled("verify", cost) for layout, cost in costs.verify.items()},
        drafters=tuple(
            replace(
                drafter,
                catch_up=drafter.catch_up and scaled("catch_up", drafter.catch_up),
                draft=drafter.draft and scaled("draft", drafter.draft),
                lookup=drafter.lookup and scaled("draft", drafter.lookup),
            )
            for drafter in costs.drafters
        ),
    )
