"""What turns the passes of a job into its duration, and the gap behind it."""

from typing import Literal, NamedTuple

from spinbench.control.cost_curve import Amount
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, VerifyJob

JobKind = Literal["prefill", "catch_up", "draft", "verify"]

KINDS: dict[type[Job], JobKind] = {
    PrefillJob: "prefill",
    CatchUpJob: "catch_up",
    DraftJob: "draft",
    VerifyJob: "verify",
}


class JobCost(NamedTuple):
    """What turns the passes of a job into its duration; also host time alone, where there is no pass."""

    pass_factor: float
    """On the sum of the passes: what a pass costs inside a job, over what it costs by itself."""
    job_s: float
    request_s: float
    pass_s: float
    """Host time around each pass: building batches, sampling's bookkeeping."""

    def of(self, passes_s: Amount, num_requests: int, num_passes: int) -> Amount:
        """Seconds of a job."""
        return self.pass_factor * passes_s + self.job_s + self.request_s * num_requests + self.pass_s * num_passes


class GapCost(NamedTuple):
    """The serving loop's own time after a job."""

    gap_s: float
    request_s: float

    def of(self, num_requests: int) -> float:
        """Seconds after a job with so many requests."""
        return self.gap_s + self.request_s * num_requests


NO_GAP = GapCost(0.0, 0.0)
"""Where none was profiled."""
