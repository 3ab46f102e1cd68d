"""Names of lanes: the target's, or the drafter's own."""

from collections.abc import Sequence

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job

TARGET_LANE = "target"


def lane_name(job: Job, drafters: Sequence[DrafterInfo]) -> str:
    """The lane that does a job."""
    return drafters[job.drafter].name if isinstance(job, (DraftJob, CatchUpJob)) else TARGET_LANE
