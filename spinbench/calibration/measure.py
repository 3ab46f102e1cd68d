"""Times passes, jobs and gaps in sweeps, so that a machine that drifts disturbs all points alike."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spinbench.calibration.bench import BLOCK_SIZE, Bench
from spinbench.calibration.gaps import loop_gaps_s
from spinbench.calibration.job_plan import TimedJob
from spinbench.calibration.partial import PartialProfile, point_key
from spinbench.calibration.plan import ProfileLimits
from spinbench.calibration.point import GapPoint, PassPoint, Timing
from spinbench.calibration.profile_file import ProfileTables
from spinbench.control.drafter import DrafterInfo

FEW_REPEATS = 4
SLOW_POINT_S = 1.5
"""A point that took this long in all is not repeated more than `FEW_REPEATS` times."""
SHORT_PASS_S, SHORT_JOB_S = 0.01, 0.002
"""A pass or job shorter than this is timed several times in a row, at most `MOST_PER_VISIT`."""
MOST_PER_VISIT = 3
LOOP_SHARES = (0.0, 0.3, 1.0)
"""Batch sizes at which the loop is measured, as shares of the largest."""

OnProgress = Callable[[str, int, int], None]
"""Told what is being timed, and how many timings of how many are done."""


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """Everything to be timed."""

    passes: tuple[tuple[PassPoint, ...], ...]
    """Model by model: within a sweep a model's passes follow each other, as the steps of a draft do."""
    jobs: tuple[TimedJob, ...]
    drafters: tuple[DrafterInfo, ...]
    limits: ProfileLimits
    repeats: int
    """Timings of each point, >= 1."""

    @property
    def loop_batches(self) -> list[int]:
        """Batch sizes at which the serving loop is measured."""
        return sorted({max(1, round(self.limits.max_num_seqs * share)) for share in LOOP_SHARES})

    @property
    def num_timings(self) -> int:
        """All timings, loop runs counted as one each; slow points may get fewer."""
        return (sum(map(len, self.passes)) + len(self.jobs)) * self.repeats + len(self.loop_batches)


def measure(bench: Bench, plan: MeasurePlan, partial: PartialProfile, on_progress: OnProgress | None) -> ProfileTables:
    """Time what `partial` does not hold yet; every timing is kept there at once. Raises KeyboardInterrupt on Ctrl-C."""
    total = plan.num_timings
    done = partial.num_timings
    warm: set[str] = set()

    def report(label: str, count: int) -> None:
        nonlocal done
        done += count
        if on_progress:
            on_progress(label, min(done, total), total)

    bench.begin()
    for sweep in range(plan.repeats):
        rng = np.random.default_rng([plan.repeats, sweep])
        for points in plan.passes:
            for index in rng.permutation(len(points)).tolist():
                point = points[index]
                key = point_key(point)
                if not _is_wanted(partial, key, sweep):
                    continue
                if point.model not in warm or not partial.count(key):
                    bench.pass_s(point)  # the first time a shape comes, kernels are chosen
                    warm.add(point.model)
                partial.add(key, _visit_s(lambda point=point: bench.pass_s(point), SHORT_PASS_S))
                report(f"passes of {point.model}", 1)
        for index in rng.permutation(len(plan.jobs)).tolist():
            timed = plan.jobs[index]
            key = point_key(timed.job)
            if not _is_wanted(partial, key, sweep):
                continue
            if not partial.count(key):
                _job_s(bench, timed)
            partial.add(key, _visit_s(lambda timed=timed: _job_s(bench, timed), SHORT_JOB_S))
            report("jobs", 1)
    _measure_loop(bench, plan, partial, report)
    return _tables(plan, partial)


def _job_s(bench: Bench, timed: TimedJob) -> float:
    for job in timed.lead_in:
        bench.job_s(job)
    return bench.job_s(timed.job)


def _visit_s(time_s: Callable[[], float], short_s: float) -> float:
    """One timing; of what is short the median of several, since a single interruption would double it."""
    seconds = [time_s()]
    while sum(seconds) < short_s and len(seconds) < MOST_PER_VISIT:
        seconds.append(time_s())
    return float(np.median(seconds))


def _is_wanted(partial: PartialProfile, key: str, sweep: int) -> bool:
    count = partial.count(key)
    slow = count >= FEW_REPEATS and sum(partial.seconds(key)) > SLOW_POINT_S
    return count <= sweep and not slow


def _measure_loop(bench: Bench, plan: MeasurePlan, partial: PartialProfile, report: Callable[[str, int], None]) -> None:
    for batch in plan.loop_batches:
        marker = f"loop {batch}"
        if partial.count(marker):
            continue
        gaps = loop_gaps_s(bench.body, plan.drafters, batch, bench.num_blocks, BLOCK_SIZE, bench.vocab_size)
        for point, seconds in gaps.items():
            for gap_s in seconds:
                partial.add(gap_key(point), gap_s)
        partial.add(marker, 1.0)
        report("serving loop", 1)


def gap_key(point: GapPoint) -> str:
    """How a gap is called among the measurements: unlike other points, which ones there are shows as they come."""
    return f"gap {point.kind} {point.next_kind} {point.num_requests}"


def _gap_point(key: str) -> GapPoint:
    _, kind, next_kind, count = key.split()
    return GapPoint(kind, next_kind, int(count))  # type: ignore[arg-type]


def _tables(plan: MeasurePlan, partial: PartialProfile) -> ProfileTables:
    passes = [point for points in plan.passes for point in points]
    gaps = sorted(
        map(_gap_point, partial.keys_with("gap ")), key=lambda gap: (gap.kind, gap.next_kind, gap.num_requests)
    )
    return ProfileTables(
        tuple((point, Timing.of(partial.seconds(point_key(point)))) for point in passes),
        tuple((timed.job, Timing.of(partial.seconds(point_key(timed.job)))) for timed in plan.jobs),
        tuple((point, Timing.of(partial.seconds(gap_key(point)))) for point in gaps),
    )
