"""What a profile leaves out, since there was too little memory for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from spinbench.calibration.profile.meta import DidNotFitMeta
from spinbench.calibration.profile.partial import PartialProfile, point_key
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.point import JobPoint, PassPoint
from spinbench.runtime.out_of_memory import TooLittleMemory

LEFT_OUT = "left out "
"""Put before the key of what is left out, so that an interrupted profile does not try it again."""
Point = TypeVar("Point", PassPoint, JobPoint)


def fits(kept: PartialProfile, point: Point, run: Callable[[Point], None]) -> bool:
    """Run it for a point, which is left out from now on where there is too little memory.

    Raises TooLittleMemory for a job of a single request that was never timed: nothing smaller would serve it.
    """
    key = point_key(point)
    try:
        run(point)
    except TooLittleMemory:
        if isinstance(point, JobPoint) and len(point.stop_tokens) == 1 and not kept.count(key):
            raise
        leave_out(kept, key)
        return False
    return True


def leave_out(kept: PartialProfile, key: str) -> None:
    """Note that this is not to be timed any more."""
    kept.add(f"{LEFT_OUT}{key}", 1.0)


def is_left_out(kept: PartialProfile, key: str) -> bool:
    """Whether that was noted."""
    return kept.count(f"{LEFT_OUT}{key}") > 0


def did_not_fit(
    kept: PartialProfile, jobs: Sequence[JobPoint], loops: Mapping[int, str], limits: ProfileLimits
) -> DidNotFitMeta | None:
    """What was left out, None where all fitted; `loops` are keys of the serving loop by its batch."""
    left_out = kept.keys_with(LEFT_OUT)
    if not left_out:
        return None
    batches = [(batch, not is_left_out(kept, key)) for batch, key in loops.items()]
    prefills: list[tuple[int, bool]] = []
    for job in jobs:
        job_fits = not is_left_out(kept, point_key(job))
        if job.kind == "prefill":
            prefills.append((sum(job.stop_tokens), job_fits))
        else:
            batches.append((len(job.stop_tokens), job_fits))
    return DidNotFitMeta(
        points=len(left_out),
        max_num_seqs=_largest(batches, limits.max_num_seqs),
        max_num_batched_tokens=_largest(prefills, limits.max_num_batched_tokens),
    )


def _largest(sizes: Sequence[tuple[int, bool]], limit: int) -> int:
    """The largest that fits below the smallest that does not; `limit` where all fit."""
    smallest = min((size for size, fit in sizes if not fit), default=None)
    return limit if smallest is None else max((size for size, fit in sizes if fit and size < smallest), default=0)
