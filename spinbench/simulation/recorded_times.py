"""The durations of a run that really happened, one job after another."""

from collections.abc import Sequence

from spinbench.control.job import Job
from spinbench.control.recorder import KINDS


class Diverged(RuntimeError):
    """The simulated loop asked for another job than the real one did."""


class RecordedTimes:
    """Gives the n-th job the duration of the n-th span, and the same pause behind it.

    With these times every decision must come out as it did in the recorded run, also one that looks at time.
    """

    warnings: Sequence[str] = ()

    def __init__(self, kinds: Sequence[str], start_s: Sequence[float], end_s: Sequence[float]) -> None:
        """The recorded jobs in the order in which they ran."""
        self._kinds = list(kinds)
        self._start_s = list(start_s)
        self._end_s = list(end_s)
        self.start_s = self._start_s[0] if self._start_s else 0.0
        """When the first job began."""
        self._next = 0

    def job_s(self, job: Job) -> float:
        """Seconds of the next recorded job. Raises Diverged when that is of another kind, or there is none."""
        index, kind = self._next, KINDS[type(job)]
        if index >= len(self._kinds) or self._kinds[index] != kind:
            there = self._kinds[index] if index < len(self._kinds) else "the end"
            raise Diverged(f"job {index} is {kind} here and {there} in the recorded run")
        self._next += 1
        return self._end_s[index] - self._start_s[index]

    def gap_s(self, job: Job) -> float:
        """Seconds until the next recorded job; 0 behind the last."""
        if self._next >= len(self._kinds):
            return 0.0
        return max(0.0, self._start_s[self._next] - self._end_s[self._next - 1])
