"""Times of jobs as somebody tells them, on a machine that has become faster or slower since."""

from collections.abc import Mapping, Sequence

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import Job
from spinbench.control.jobs.lane_name import lane_name
from spinbench.control.records.span_chunk import kind_of
from spinbench.simulation.body import JobTimes


class ScaledTimes:
    """Multiplies a job's seconds by the factor of its kind and lane; gaps between jobs are left as they are."""

    def __init__(
        self, times: JobTimes, factors: Mapping[tuple[str, str], float], drafters: Sequence[DrafterInfo]
    ) -> None:
        """`factors` by (kind of span, name of lane), each > 0; what is not there is not scaled."""
        self._times = times
        self._factors = factors
        self._drafters = drafters

    @property
    def warnings(self) -> Sequence[str]:
        """Those of the times that are scaled."""
        return self._times.warnings

    def job_s(self, job: Job) -> float:
        """Seconds that a job occupies its lane."""
        return self._times.job_s(job) * self._factors.get((kind_of(job), lane_name(job, self._drafters)), 1.0)

    def gap_s(self, job: Job) -> float:
        """Seconds between the end of this job and the start of the next."""
        return self._times.gap_s(job)
