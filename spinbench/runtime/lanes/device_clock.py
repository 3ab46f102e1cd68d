"""When jobs began and ended: on a CPU as they do, on a GPU as its events say once somebody asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from spinbench.control.jobs.body import JobTimes, KnownTimes

ANCHOR_AGE_S = 10.0
"""A time between two events is a float32 of ms: beyond this distance it would be coarser than a microsecond."""


class DeviceClock(Protocol):
    """The run's clock. Marks are points in the work that the host gave the device so far."""

    def restart(self) -> None:
        """Zero is now, and the device has nothing to do."""
        ...

    def now(self) -> float:
        """Seconds since zero on the host."""
        ...

    def at(self, host_s: float) -> float:
        """A time of `time.perf_counter()` on this clock."""
        ...

    def mark(self) -> Any:
        """Here."""
        ...

    def between(self, start: Any, end: Any) -> JobTimes:
        """What lies between two marks."""
        ...


class HostClock:
    """Of a device that is done when the host is: a mark is the time itself."""

    def __init__(self) -> None:
        self._zero_s = time.perf_counter()

    def restart(self) -> None:
        """See `DeviceClock`, as the others."""
        self._zero_s = time.perf_counter()

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._zero_s

    def at(self, host_s: float) -> float:
        """Seconds."""
        return host_s - self._zero_s

    def mark(self) -> float:
        """Now."""
        return self.now()

    def between(self, start: float, end: float) -> KnownTimes:
        """Known already."""
        return KnownTimes(start, end)


@dataclass(frozen=True, slots=True)
class _Anchor:
    """An event whose time on the host is known."""

    event: Any
    time_s: float


class EventClock:
    """Of a device that works through a queue. A mark is an event in it, whose time is read when it is asked for.

    So the host waits for the device only where it needs a result, and not for the end of every job. What was asked for
    before the device got there is waited for.
    """

    def __init__(self, make_event: Callable[[], Any]) -> None:
        """`make_event` makes what can `record`, `synchronize` and tell `elapsed_time`, as `torch.cuda.Event` does."""
        self._make_event = make_event
        self._zero_s = time.perf_counter()
        self._anchor = self._new_anchor()

    @classmethod
    def of(cls, device: torch.device) -> "EventClock":
        """Of a CUDA device's current stream."""
        with torch.cuda.device(device):
            return cls(lambda: torch.cuda.Event(enable_timing=True))

    def restart(self) -> None:
        """See `DeviceClock`, as the others."""
        self._anchor = self._new_anchor()
        self._zero_s = self._anchor.time_s

    def now(self) -> float:
        """Seconds."""
        return self.at(time.perf_counter())

    def at(self, host_s: float) -> float:
        """Seconds."""
        return host_s - self._zero_s

    def mark(self) -> tuple[Any, _Anchor]:
        """An event, and what its time is counted from."""
        event = self._make_event()
        event.record()
        return event, self._anchor

    def between(self, start: tuple[Any, _Anchor], end: tuple[Any, _Anchor]) -> JobTimes:
        """Read when somebody asks."""
        return _EventTimes(self, start, end)

    def seconds(self, mark: tuple[Any, _Anchor]) -> float:
        """When the device got to a mark; waits until it has."""
        event, anchor = mark
        event.synchronize()
        if time.perf_counter() - self._anchor.time_s > ANCHOR_AGE_S:
            self._anchor = self._new_anchor()
        return self.at(anchor.time_s + anchor.event.elapsed_time(event) / 1e3)

    def _new_anchor(self) -> _Anchor:
        event = self._make_event()
        event.record()
        event.synchronize()
        return _Anchor(event, time.perf_counter())


class _EventTimes:
    """Times that are read once."""

    def __init__(self, clock: EventClock, start: tuple[Any, _Anchor], end: tuple[Any, _Anchor]) -> None:
        self._clock, self._start, self._end = clock, start, end
        self._known: tuple[float, float] | None = None

    @property
    def start_s(self) -> float:
        return self._read()[0]

    @property
    def end_s(self) -> float:
        return self._read()[1]

    def _read(self) -> tuple[float, float]:
        if self._known is None:
            self._known = self._clock.seconds(self._start), self._clock.seconds(self._end)
            self._start = self._end = (None, self._clock._anchor)  # events are the driver's: let them go
        return self._known


def clock_of(device: torch.device) -> DeviceClock:
    """The clock of a run on `device`."""
    return EventClock.of(device) if device.type == "cuda" else HostClock()
