"""When the drafts of a round were made: arrays with an entry per request of the round."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.drafting.ready_drafts import ReadyDrafts
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.draft_series import SeriesDone


class DraftTimes(Protocol):
    """Of those for whom nobody drafted, the times are NaN."""

    @property
    def start_s(self) -> FloatArray:
        """When each request's draft began, the first of several."""
        ...

    @property
    def end_s(self) -> FloatArray:
        """When it ended, the last of several."""
        ...

    @property
    def duration_s(self) -> FloatArray:
        """How long the draft job took; 0 without one."""
        ...

    def group_size(self) -> IntArray:
        """Requests in the draft job, 0 without one."""
        ...


class TimesOfJobs:
    """Of jobs that end one by one; when they did is not asked for before somebody needs it."""

    def __init__(self, num_requests: int, *, several: bool) -> None:
        """`several`: more than one drafter may draft for a request."""
        self._start_s, self._end_s = np.full((2, num_requests), np.nan)
        self._group_size = np.zeros(num_requests, np.int64)
        self._several = several
        self._untimed: list[tuple[IntArray, JobDone]] = []
        """Drafts whose times nobody has asked for yet, and the places of their requests."""

    def take_in(self, ready: ReadyDrafts) -> None:
        """Drafts that were there before the round began."""
        own = ready.is_there
        self._start_s[own], self._end_s[own] = ready.start_s[own], ready.end_s[own]
        self._group_size[own] = ready.group_size[own]

    def add(self, places: IntArray, done: JobDone, own_places: IntArray) -> None:
        """A job for the requests in these places, whose first or only drafter it is of those in `own_places`."""
        self._untimed.append((places, done))
        self._group_size[own_places] = len(places)

    @property
    def start_s(self) -> FloatArray:
        """See `DraftTimes`."""
        self._ask()
        return self._start_s

    @property
    def end_s(self) -> FloatArray:
        """See `DraftTimes`."""
        self._ask()
        return self._end_s

    @property
    def duration_s(self) -> FloatArray:
        """See `DraftTimes`."""
        duration_s = self.end_s - self.start_s
        duration_s[np.isnan(duration_s)] = 0.0
        return duration_s

    def group_size(self) -> IntArray:
        """See `DraftTimes`."""
        return self._group_size

    def _ask(self) -> None:
        for places, done in self._untimed:
            start_s, end_s = done.start_s, done.end_s
            if self._several:
                start_s, end_s = np.fmin(self._start_s[places], start_s), np.fmax(self._end_s[places], end_s)
            self._start_s[places], self._end_s[places] = start_s, end_s
        self._untimed.clear()


class TimesAtOnce:
    """Of a series that was done at one go: what a job has for all its requests, looked up when somebody asks."""

    def __init__(self, done: SeriesDone, drafter: IntArray, num_drafters: int) -> None:
        """`drafter` [requests], -1 = none."""
        self._done = done
        self._drafter = drafter
        self._num_drafters = num_drafters

    @property
    def start_s(self) -> FloatArray:
        """See `DraftTimes`."""
        return self._of([start_s for start_s, _ in self._done.draft_times], np.nan)

    @property
    def end_s(self) -> FloatArray:
        """See `DraftTimes`."""
        return self._of([end_s for _, end_s in self._done.draft_times], np.nan)

    @property
    def duration_s(self) -> FloatArray:
        """See `DraftTimes`."""
        return self._of([end_s - start_s for start_s, end_s in self._done.draft_times], 0.0)

    def group_size(self) -> IntArray:
        """See `DraftTimes`."""
        return self._of([len(own) for _, own in self._done.series.groups.parts], 0)

    def _of(self, values: Sequence[Any], without: float) -> Any:
        """`values` [parts] of the requests of each part; `without` of who is in none."""
        by_drafter: list[Any] = [without] * (self._num_drafters + 1)  # -1, nobody, finds the last one
        for (number, _), value in zip(self._done.series.groups.parts, values, strict=True):
            by_drafter[number] = value
        return np.array(by_drafter)[self._drafter]
