"""Jobs on two lanes of a device side by side, and what a job that was done took."""

from collections.abc import Mapping, Sequence

from spinbench.calibration.profile.point import JobPoint
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.result import DidNotFit
from spinbench.control.records.span_chunk import kind_of
from spinbench.runtime.body import TorchBody
from spinbench.runtime.out_of_memory import TooLittleMemory

LESS = "lower max_context_tokens, max_num_batched_tokens or max_num_seqs"
"""What takes less memory."""


class TwoLanes:
    """Runs jobs side by side."""

    def __init__(self, body: TorchBody, lane_places: Mapping[str, int]) -> None:
        self._body = body
        self._lane_places = lane_places

    def beside(self, points: Sequence[JobPoint], repeats: int) -> list[list[float]]:
        """Seconds of each of these jobs, at least `repeats` times each, with a lane each that is never idle.

        Those that were under way when another lane had its last are left out.
        """
        jobs = [point.job(self._lane_places.get(point.lane, 0)) for point in points]
        seconds: list[list[float]] = [[] for _ in jobs]
        for job in jobs:
            self._body.submit(job)
        in_flight = len(jobs)
        while in_flight:
            done = self._body.next_event(None)
            if done is None:
                raise RuntimeError("a lane did not do the job that it was given")
            place = next(place for place, job in enumerate(jobs) if job is done.job)
            in_flight -= 1
            if min(map(len, seconds)) < repeats:
                seconds[place].append(job_seconds(done))
                self._body.submit(jobs[place])
                in_flight += 1
        return seconds


def job_seconds(done: JobDone) -> float:
    """From its start to its end on its lane. Raises TooLittleMemory if it did not fit."""
    if isinstance(done.result, DidNotFit):
        spans = done.job.spans
        what = f"{kind_of(done.job)} job of {len(spans)} requests, {int(spans.num_tokens.sum())} tokens"
        raise TooLittleMemory(f"out of memory in a {what} behind {int(spans.start.sum())}; {LESS}")
    return done.end_s - done.start_s
