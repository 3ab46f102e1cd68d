"""Times passes, jobs and gaps in sweeps, and takes out how the machine's pace moved meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spinbench.calibration.measuring.bench import BLOCK_SIZE, Bench
from spinbench.calibration.measuring.gaps import loop_gaps_s
from spinbench.calibration.measuring.pace import History, at_common_pace
from spinbench.calibration.profile.device_meta import PaceMeta
from spinbench.calibration.profile.job_plan import JobGroup
from spinbench.calibration.profile.left_out import LEFT_OUT, did_not_fit, fits, is_left_out, leave_out
from spinbench.calibration.profile.meta import DidNotFitMeta
from spinbench.calibration.profile.partial import PartialProfile, point_key
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import ProfileTables
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.runtime.out_of_memory import TooLittleMemory

FEW_REPEATS = 4
SLOW_POINT_S = 1.5
"""A point that took this long in all is not repeated more than `FEW_REPEATS` times, before all have had theirs."""
UNSURE_POINT_S = 25.0
"""Of a point that took this long in all one has to believe what one has."""
SHORT_PASS_S = 0.01
"""A pass shorter than this is timed several times in a row, at most `MOST_PER_VISIT`."""
MOST_PER_VISIT = 3
VISITS = {"draft": 2, "catch_up": 5}
"""Timings per sweep of jobs that are short."""
LOOP_SHARES = (0.0, 0.3, 1.0)
"""Batch sizes at which the loop is measured, as shares of the largest."""
GAP, LOOP = "gap ", "loop "
"""How keys begin that are not those of points."""

OnProgress = Callable[[str, int, int], None]
"""Told what is being timed, and how many timings of how many are done."""


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """Everything to be timed."""

    passes: tuple[tuple[PassPoint, ...], ...]
    """Model by model: within a sweep a model's passes follow each other, as the steps of a draft do."""
    groups: tuple[JobGroup, ...]
    drafters: tuple[DrafterInfo, ...]
    limits: ProfileLimits
    repeats: int
    """Timings of each point, >= 1."""
    precision: float = 0.0
    """Points whose median has a larger standard error, as a share of it, are timed further. 0 = none is."""
    max_repeats: int = 0
    """Timings of such a point at most."""

    @property
    def loop_batches(self) -> list[int]:
        """Batch sizes at which the serving loop is measured."""
        return sorted({max(1, round(self.limits.max_num_seqs * share)) for share in LOOP_SHARES})

    @property
    def num_timings(self) -> int:
        """All timings, loop runs counted as one each; slow points may get fewer, unsure ones more."""
        per_sweep = sum(map(len, self.passes)) + sum(visits(group) * len(group.jobs) for group in self.groups)
        return per_sweep * self.repeats + len(self.loop_batches)


def measure(bench: Bench, plan: MeasurePlan, partial: PartialProfile, on_progress: OnProgress | None) -> ProfileTables:
    """Time what `partial` does not hold yet; every timing is kept there at once.

    A point that there is too little memory for is left out, as is noted in `partial`. Raises TooLittleMemory for a job
    of a single request, and KeyboardInterrupt on Ctrl-C.
    """
    total = plan.num_timings
    done = partial.num_timings
    warm: set[str] = set()

    def report(label: str, count: int) -> None:
        nonlocal done
        done += count
        if on_progress:
            on_progress(label, min(done, total), total)

    def time_pass(point: PassPoint) -> None:
        if point.model not in warm or not partial.count(point_key(point)):
            bench.pass_s(point)  # the first time a shape comes, kernels are chosen
            warm.add(point.model)
        partial.add(point_key(point), _visit_s(bench, point))

    bench.begin()
    unsure: frozenset[str] | None = None
    for sweep in range(max(plan.repeats, plan.max_repeats if plan.precision else 0)):
        if sweep >= plan.repeats:
            unsure = _unsure(plan, partial)
            further = _num_unsure(plan, partial, sweep, unsure)
            if not further:
                break
            total = done + further + len(plan.loop_batches)
        rng = np.random.default_rng([plan.repeats, sweep])
        for points in plan.passes:
            for index in rng.permutation(len(points)).tolist():
                point = points[index]
                if _is_wanted(partial, point_key(point), sweep, unsure) and fits(partial, point, time_pass):
                    report(f"passes of {point.model}", 1)
        for index in rng.permutation(len(plan.groups)).tolist():
            group = plan.groups[index]
            for visit in range(visits(group)):
                wanted = [
                    job
                    for job in group.jobs
                    if _is_wanted(partial, point_key(job), sweep, unsure, visit, visits(group))
                ]
                _time_group(bench, group, wanted, partial)
                report("jobs", len(wanted))
    _measure_loop(bench, plan, partial, report)
    return _tables(plan, partial)


def visits(group: JobGroup) -> int:
    """Timings of a group's jobs per sweep: what takes few milliseconds varies more, and gets more."""
    return VISITS.get(group.jobs[0].kind, 1)


def _time_group(bench: Bench, group: JobGroup, wanted: Sequence[JobPoint], partial: PartialProfile) -> None:
    def lead_in(_: JobPoint) -> None:
        for before in group.lead_in:
            bench.job_s(before)

    def first(job: JobPoint) -> None:
        lead_in(job)
        bench.job_s(job)  # the first time a shape comes, kernels are chosen

    def timed(job: JobPoint) -> None:
        partial.add(point_key(job), bench.job_s(job))

    ready = [job for job in wanted if partial.count(point_key(job)) or fits(partial, job, first)]
    if ready and fits(partial, ready[0], lead_in):
        for job in ready:
            fits(partial, job, timed)


def left_out_of(plan: MeasurePlan, partial: PartialProfile) -> DidNotFitMeta | None:
    """What did not fit, None where all did."""
    jobs = [job for group in plan.groups for job in group.jobs]
    return did_not_fit(partial, jobs, {batch: f"{LOOP}{batch}" for batch in plan.loop_batches}, plan.limits)


def _visit_s(bench: Bench, point: PassPoint) -> float:
    """Seconds of a pass; of a short one the median of several, since a single interruption would double it."""
    seconds = [bench.pass_s(point)]
    while sum(seconds) < SHORT_PASS_S and len(seconds) < MOST_PER_VISIT:
        seconds.append(bench.pass_s(point))
    return float(np.median(seconds))


def pace_of(partial: PartialProfile) -> PaceMeta:
    """How the machine's pace moved while these timings were taken."""
    paced = at_common_pace(_point_history(partial))
    return PaceMeta(p10=paced.p10, p90=paced.p90)


def _point_history(partial: PartialProfile) -> History:
    """All timings of passes and jobs, in the order in which they were taken."""
    return [(key, seconds) for key, seconds in partial.history if not key.startswith((GAP, LOOP, LEFT_OUT))]


def _unsure(plan: MeasurePlan, partial: PartialProfile) -> frozenset[str]:
    """Points whose median is not as sure as it should be."""
    paced = at_common_pace(_point_history(partial)).seconds
    return frozenset(key for key, seconds in paced.items() if Timing.of(seconds).standard_error > plan.precision)


def _is_wanted(
    partial: PartialProfile, key: str, sweep: int, unsure: frozenset[str] | None, visit: int = 0, per_sweep: int = 1
) -> bool:
    """Whether a point is still to be timed in this visit of a sweep; without `unsure` every point gets its repeats."""
    seconds = partial.seconds(key)
    if is_left_out(partial, key) or len(seconds) > sweep * per_sweep + visit:
        return False
    if unsure is None:
        return len(seconds) < FEW_REPEATS or sum(seconds) <= SLOW_POINT_S
    return key in unsure and sum(seconds) < UNSURE_POINT_S


def _num_unsure(plan: MeasurePlan, partial: PartialProfile, sweep: int, unsure: frozenset[str]) -> int:
    passes = sum(_is_wanted(partial, point_key(point), sweep, unsure) for points in plan.passes for point in points)
    return passes + sum(
        visits(group) * _is_wanted(partial, point_key(job), sweep, unsure, 0, visits(group))
        for group in plan.groups
        for job in group.jobs
    )


def _measure_loop(bench: Bench, plan: MeasurePlan, partial: PartialProfile, report: Callable[[str, int], None]) -> None:
    for batch in plan.loop_batches:
        marker = f"{LOOP}{batch}"
        if partial.count(marker):
            continue
        try:
            gaps = loop_gaps_s(bench.body, plan.drafters, batch, bench.num_blocks, BLOCK_SIZE, bench.vocab_size)
        except TooLittleMemory:
            if batch == 1:
                raise
            leave_out(partial, marker)
            gaps = {}
        for point, seconds in gaps.items():
            for gap_s in seconds:
                partial.add(gap_key(point), gap_s)
        partial.add(marker, 1.0)
        report("serving loop", 1)


def gap_key(point: GapPoint) -> str:
    """How a gap is called among the measurements: unlike other points, which ones there are shows as they come."""
    return f"{GAP}{point.kind} {point.next_kind} {point.num_requests}"


def _gap_point(key: str) -> GapPoint:
    _, kind, next_kind, count = key.split()
    return GapPoint(kind, next_kind, int(count))  # type: ignore[arg-type]


def _tables(plan: MeasurePlan, partial: PartialProfile) -> ProfileTables:
    passes = [point for points in plan.passes for point in points]
    jobs = [job for group in plan.groups for job in group.jobs]
    gaps = sorted(map(_gap_point, partial.keys_with(GAP)), key=lambda gap: (gap.kind, gap.next_kind, gap.num_requests))
    paced = at_common_pace(_point_history(partial)).seconds
    return ProfileTables(
        tuple((point, Timing.of(paced[key])) for point in passes if (key := point_key(point)) in paced),
        tuple((point, Timing.of(paced[key])) for point in jobs if (key := point_key(point)) in paced),
        tuple((point, Timing.of(partial.seconds(gap_key(point)))) for point in gaps),
    )
