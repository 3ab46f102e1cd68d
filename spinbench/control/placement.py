"""Which device each job runs on: what may overlap, and what must take turns."""

from dataclasses import dataclass
from typing import Literal

from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job

PlacementKind = Literal["shared", "drafters_together", "own_devices"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Devices are numbered from the target's, 0. Jobs of one device run in the order they came, those of two overlap.

    `shared`: all models on one device. `drafters_together`: the target on one, all drafters on another. `own_devices`:
    every drafter on its own beside the target's, as in SPIN's paper (arXiv 2503.15921).
    """

    kind: PlacementKind = "shared"

    def num_devices(self, num_drafters: int) -> int:
        """Devices of a run with so many drafters."""
        if self.kind == "shared" or not num_drafters:
            return 1
        return 2 if self.kind == "drafters_together" else 1 + num_drafters

    @property
    def drafts_side_by_side(self) -> bool:
        """Whether drafters work at the same time: what they take is that of the slowest, not the sum."""
        return self.kind == "own_devices"

    def device_of(self, job: Job) -> int:
        """The device that a job runs on."""
        if self.kind == "shared" or not isinstance(job, DraftJob | CatchUpJob):
            return 0
        return 1 if self.kind == "drafters_together" else 1 + job.drafter


SHARED = Placement()
