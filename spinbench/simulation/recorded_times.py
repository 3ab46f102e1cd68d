"""When the jobs of a run that really happened began and ended."""

from collections import defaultdict, deque
from collections.abc import Sequence

import pandas as pd

from spinbench.control.jobs.job import Job
from spinbench.control.records.span_chunk import OUT_OF_MEMORY, kind_of


class Diverged(RuntimeError):
    """The simulated loop asked for another job than the real one did."""


class RecordedTimes:
    """Gives the n-th job of a lane the start and the end of the lane's n-th span.

    With these times every decision must come out as it did in the recorded run, also one that looks at time. Starts are
    needed, too: with several lanes a job may have begun late because the host was busy.
    """

    warnings: Sequence[str] = ()

    def __init__(
        self,
        kinds: Sequence[str],
        start_s: Sequence[float],
        end_s: Sequence[float],
        lanes: Sequence[str] | None = None,
    ) -> None:
        """The recorded jobs in the order in which they ended; `lanes` None where they ran one after another."""
        self.start_s = min(start_s, default=0.0)
        """When the first job began."""
        self._queues: dict[str, deque[tuple[int, str, float, float]]] = defaultdict(deque)
        names = [""] * len(kinds) if lanes is None else lanes
        self._has_lanes = lanes is not None
        for index, (name, kind, begin_s, finish_s) in enumerate(zip(names, kinds, start_s, end_s, strict=True)):
            self._queues[name].append((index, kind, begin_s, finish_s))
        self._num_jobs = 0

    @classmethod
    def of_spans(cls, spans: pd.DataFrame) -> "RecordedTimes":
        """Those of a stored run, from its `spans.parquet`."""
        kinds, start_s, end_s, lanes = (spans[name].tolist() for name in ("kind", "start_s", "end_s", "lane"))
        return cls(kinds, start_s, end_s, lanes)

    def next_span(self, job: Job, lane: str) -> tuple[float, float, bool]:
        """Start and end of the lane's next job, and whether it fitted on its device.

        Raises Diverged when that is of another kind, or there is none.
        """
        queue, kind = self._queues[lane if self._has_lanes else ""], kind_of(job)
        where, self._num_jobs = self._num_jobs, self._num_jobs + 1
        if not queue or queue[0][1] not in (kind, OUT_OF_MEMORY):
            there = queue[0][1] if queue else "the end"
            raise Diverged(f"job {queue[0][0] if queue else where} is {kind} here and {there} in the recorded run")
        _, found, start_s, end_s = queue.popleft()
        return start_s, end_s, found != OUT_OF_MEMORY
