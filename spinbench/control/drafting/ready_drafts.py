"""Drafts that are there before the round that verifies them begins."""

from dataclasses import dataclass, fields

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.request_table import NO_DRAFTER

NO_JOB = -1


@dataclass(frozen=True, slots=True)
class ReadyDrafts:
    """Arrays with an entry per request; what stands beside no job has no meaning."""

    job: IntArray
    """Number of the job that drafted ahead for the request, -1 = it has no draft yet."""
    drafter: IntArray
    num_tokens: IntArray
    """Length of the draft."""
    group_size: IntArray
    """Requests of the job."""
    start_s: FloatArray
    """When the job began."""
    end_s: FloatArray

    @classmethod
    def none(cls, count: int) -> "ReadyDrafts":
        """Of requests that have no draft."""
        nothing, never = np.zeros(count, np.int64), np.full(count, np.nan)
        no_job, no_drafter = np.full(count, NO_JOB), np.full(count, NO_DRAFTER)
        return cls(no_job, no_drafter, nothing, nothing.copy(), never, never.copy())

    @property
    def is_there(self) -> BoolArray:
        """Which requests have a draft."""
        return self.job != NO_JOB

    def only(self, places: IntArray | BoolArray) -> "ReadyDrafts":
        """Some of the requests, as a copy."""
        return ReadyDrafts(*(getattr(self, field.name)[places] for field in fields(self)))
