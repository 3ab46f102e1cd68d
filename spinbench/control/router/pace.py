"""How fast a replica has been of late."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.job import PrefillJob, VerifyJob
from spinbench.control.jobs.result import PrefillResult, VerifyResult

MEMORY_JOBS = 100
"""Jobs of a kind after which an old one counts 1/e: seconds of serving, so that a change of load shows soon."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds per token; `None` = not known yet."""

    prompt_token_s: float | None = None
    """Prefilling, per token of the batch."""
    answer_token_s: float | None = None
    """Decoding, per token of one request: its rounds, and whatever it waited for between them."""


class PaceMeter:
    """Learns a replica's pace from its jobs as they end; decays, so that old ones are forgotten."""

    def __init__(self, num_requests: int) -> None:
        """`num_requests` of the whole run: rows are below it."""
        self._emitted_at_s = np.full(num_requests, np.nan)
        """When each request last emitted a token."""
        self._prefill_s = self._prefill_tokens = 0.0
        self._answer_s = self._answer_tokens = 0.0
        self._keep = float(np.exp(-1 / MEMORY_JOBS))

    @property
    def pace(self) -> Pace:
        """As it is now."""
        return Pace(
            self._prefill_s / self._prefill_tokens if self._prefill_tokens else None,
            self._answer_s / self._answer_tokens if self._answer_tokens else None,
        )

    def observe(self, done: JobDone) -> None:
        """Learn from a job that ended."""
        job, result = done.job, done.result
        if isinstance(job, PrefillJob) and isinstance(result, PrefillResult):
            self._prefill_s = self._keep * self._prefill_s + done.end_s - done.start_s
            self._prefill_tokens = self._keep * self._prefill_tokens + int(job.spans.num_tokens.sum())
            self._emitted_at_s[job.spans.rows] = done.end_s
        elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult):
            rows = job.spans.rows
            elapsed_s = float((done.end_s - self._emitted_at_s[rows]).sum())
            self._answer_s = self._keep * self._answer_s + elapsed_s
            self._answer_tokens = self._keep * self._answer_tokens + int(result.num_emitted.sum())
            self._emitted_at_s[rows] = done.end_s


def mean_pace(paces: Sequence[Pace]) -> Pace:
    """Of replicas that are alike: the mean of those that know theirs."""
    prompts = [pace.prompt_token_s for pace in paces if pace.prompt_token_s is not None]
    answers = [pace.answer_token_s for pace in paces if pace.answer_token_s is not None]
    return Pace(
        sum(prompts) / len(prompts) if prompts else None,
        sum(answers) / len(answers) if answers else None,
    )
