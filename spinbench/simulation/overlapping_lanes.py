"""Two lanes of one device: what runs beside something else takes longer."""

from collections import deque
from dataclasses import dataclass

from simpy import Environment, Event

from spinbench.control.costs.overlap import Overlap

TARGET_LANE_NUMBER = 0


@dataclass(slots=True)
class _Running:
    """A job under way."""

    left_s: float
    """Of its work, in seconds with the device to itself, at the last change."""
    start_s: float
    end: Event


class OverlappingLanes:
    """A queue for each of two lanes. A job's speed changes whenever the other lane begins or ends one."""

    def __init__(self, environment: Environment, overlap: Overlap) -> None:
        self._environment = environment
        self._overlap = overlap
        self._waiting: tuple[deque[tuple[float, float, Event]], ...] = (deque(), deque())
        self._running: list[_Running | None] = [None, None]
        self._changed_s = 0.0
        self._version = 0
        """Of the speeds: an end that was foreseen under other ones does not count."""

    def submit(self, lane: int, duration_s: float, not_before_s: float) -> Event:
        """Queue a job that takes `duration_s` alone; the event of its end has its start as value."""
        end = self._environment.event()
        self._waiting[lane].append((duration_s, not_before_s, end))
        if self._running[lane] is None:
            self._begin_next(lane)
        return end

    def _begin_next(self, lane: int) -> None:
        """Begin the lane's next job, or wait until it may begin."""
        queue, now_s = self._waiting[lane], float(self._environment.now)
        if not queue or self._running[lane] is not None:
            return
        duration_s, not_before_s, end = queue[0]
        if not_before_s > now_s:
            later = self._environment.timeout(not_before_s - now_s)
            assert later.callbacks is not None
            later.callbacks.append(lambda _: self._begin_next(lane))
            return
        queue.popleft()
        self._advance()
        self._running[lane] = _Running(duration_s, now_s, end)
        self._foresee()

    def _factor(self, lane: int) -> float:
        return self._overlap.factor(lane == TARGET_LANE_NUMBER, self._running[1 - lane] is not None)

    def _advance(self) -> None:
        """Take what was done since the last change off the jobs."""
        now_s = float(self._environment.now)
        for lane, job in enumerate(self._running):
            if job is not None:
                job.left_s = max(0.0, job.left_s - (now_s - self._changed_s) / self._factor(lane))
        self._changed_s = now_s

    def _foresee(self) -> None:
        """When the next job ends, if nothing changes before."""
        self._version += 1
        version = self._version
        left = [(job.left_s * self._factor(lane), lane) for lane, job in enumerate(self._running) if job is not None]
        if not left:
            return
        left_s, lane = min(left)
        event = self._environment.timeout(left_s)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: self._ended(lane, version))

    def _ended(self, lane: int, version: int) -> None:
        job = self._running[lane]
        if version != self._version or job is None:
            return
        self._advance()
        self._running[lane] = None
        job.end.succeed(job.start_s)
        self._foresee()
        self._begin_next(lane)
