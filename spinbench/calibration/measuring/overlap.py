"""How two lanes of one device slow each other: a step of the target beside a draft, on the runtime's own lanes."""

from collections.abc import Sequence

import numpy as np

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.profile.device_meta import OverlapMeta
from spinbench.calibration.profile.meta import DrafterMeta, ModelMeta
from spinbench.calibration.profile.plan import FIT, ProfileLimits
from spinbench.calibration.profile.point import JobPoint
from spinbench.control.costs.overlap import Overlap
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.runtime.out_of_memory import TooLittleMemory

DRAFTER_THREADS = 1
"""Of the drafter's lane on a CPU: placement's default."""
TARGET, DRAFTER = 0, 1


def measure_overlap(
    bench: Bench, models: Sequence[ModelMeta], drafters: Sequence[DrafterMeta], limits: ProfileLimits, repeats: int
) -> OverlapMeta | None:
    """The means over the smallest and the largest batch; None where no drafter has a network, or memory does not do.

    A batch that does not fit with both lanes at work is halved.

    Each job is timed with the whole device to itself, on its lane while the other is idle, and with both busy
    throughout, `repeats` times each.
    """
    macs = {model.name: model.macs_per_token for model in models}
    networks = [drafter for drafter in drafters if drafter.model is not None]
    if not networks:
        return None
    drafter = max(networks, key=lambda one: macs[one.model or ""])
    bench.begin()  # the serving loop, timed before, had texts of its own
    found, batch = {}, limits.max_num_seqs
    while batch and 1 not in found:
        try:
            found[batch] = _factors(bench, _jobs(drafter.name, batch, limits), repeats)
        except TooLittleMemory:
            bench.begin()
            batch //= 2
        else:
            batch = 1
    if not found:
        return None
    factors = np.mean(list(found.values()), axis=0)
    threads = DRAFTER_THREADS if bench.device.type == "cpu" else None
    return OverlapMeta(**Overlap(*factors.tolist())._asdict(), drafter=drafter.name, drafter_threads=threads)


def _jobs(drafter: str, batch: int, limits: ProfileLimits) -> tuple[JobPoint, JobPoint]:
    """A step of plain decoding and a draft, behind contexts of middling length."""
    length = (limits.max_context_tokens - limits.max_num_speculative_tokens) // 2
    newest, stops = (length - 1,) * batch, (length,) * batch
    step = JobPoint("verify", TARGET_LANE, "packed", FIT, newest, stops, (), ())
    drafted = (limits.max_num_speculative_tokens,) * batch
    return step, JobPoint("draft", drafter, "", FIT, newest, stops, drafted, (0,) * batch)


def _factors(bench: Bench, jobs: tuple[JobPoint, JobPoint], repeats: int) -> Overlap:
    for job in jobs:
        bench.job_s(job)  # the first time a shape comes, kernels are chosen
    by_itself = [_median([bench.job_s(job) for _ in range(repeats)]) for job in jobs]
    with bench.two_lanes(DRAFTER_THREADS) as lanes:
        for job in jobs:
            lanes.beside([job], 1)
        alone = [_median(lanes.beside([job], repeats)[0]) for job in jobs]
        beside = [_median(seconds) for seconds in lanes.beside(jobs, repeats)]
    bench.begin()
    return Overlap(
        target_alone=alone[TARGET] / by_itself[TARGET],
        target_beside=beside[TARGET] / by_itself[TARGET],
        drafter_alone=alone[DRAFTER] / by_itself[DRAFTER],
        drafter_beside=beside[DRAFTER] / by_itself[DRAFTER],
    )


def _median(seconds: Sequence[float]) -> float:
    return float(np.median(seconds))
