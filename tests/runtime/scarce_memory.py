"""Models on a device with too little memory for some jobs, which a CPU never is: jobs fail once they have done harm."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch

from spinbench.control.jobs.job import TokenSpans
from spinbench.runtime.job_work import JobWork

KINDS = ("prefill", "catch_up", "draft", "go_on", "verify")
Fits = Callable[[str, TokenSpans], bool]


class ScarceMemory:
    """Jobs that do not fit raise torch's error behind their last pass: all that they write is in the KV pools then."""

    def __init__(self, patch: pytest.MonkeyPatch, fits: Fits, kinds: Sequence[str] = KINDS) -> None:
        self.refused: Counter[str] = Counter()
        """By kind of job."""
        for kind in kinds:
            patch.setattr(JobWork, kind, self._scarce(kind, getattr(JobWork, kind), fits))

    def _scarce(self, kind: str, real: Callable, fits: Fits) -> Callable:
        def work(self_: JobWork, job, *rest):
            outcome = real(self_, job, *rest)
            spans = job if isinstance(job, TokenSpans) else job.spans
            if not fits(kind, spans):
                self.refused[kind] += 1
                raise torch.OutOfMemoryError("scarce")
            return outcome

        return work


def every_third_of_several() -> Fits:
    """Of each kind of job, the third and so on of those with several requests do not fit."""
    seen: Counter[str] = Counter()

    def fits(kind: str, spans: TokenSpans) -> bool:
        if len(spans) == 1 and kind != "go_on":
            return True
        seen[kind] += 1
        return seen[kind] % 3 != 0

    return fits
