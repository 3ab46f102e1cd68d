"""A body without models: every job takes a stated time, and the text and what is accepted follow from a rule."""

from collections import deque

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, VerifyJob
from spinbench.control.jobs.result import DraftResult, PrefillResult, VerifyResult

EOS = 0


def true_token(position: int) -> int:
    """The text: token at a position, the same for every request; never the end token."""
    return 1 + position % 50


class ScriptedBody:
    """One lane on a clock of its own. Drafter d gets `accepts[d]` tokens of each draft accepted."""

    def __init__(self, accepts: tuple[int, ...] = (0,), job_s: float = 1.0, eos_at: int | None = None) -> None:
        self._accepts = accepts
        self._job_s = job_s
        self._eos_at = eos_at
        self._clock_s = 0.0
        self._queue: deque[Job] = deque()
        self._drafter_of: dict[int, int] = {}
        self.jobs: list[Job] = []
        self.released: list[int] = []
        self.forgotten: list[int] = []

    def now(self) -> float:
        return self._clock_s

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        self.jobs.append(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        if not self._queue:
            assert deadline_s is not None, "nothing in flight and nothing to wait for"
            self._clock_s = max(self._clock_s, deadline_s)
            return None
        job, start_s = self._queue.popleft(), self._clock_s
        self._clock_s += self._job_s
        return JobDone(job, self._result(job), "lane", KnownTimes(start_s, self._clock_s))

    def _token(self, position: int) -> int:
        return EOS if position == self._eos_at else true_token(position)

    def release(self, rows: IntArray) -> None:
        self.released.extend(rows.tolist())

    def forget(self, rows: IntArray) -> None:
        self.forgotten.extend(rows.tolist())

    def _result(self, job: Job) -> PrefillResult | DraftResult | VerifyResult | None:
        match job:
            case PrefillJob(spans):
                return PrefillResult(np.array([self._token(stop) for stop in spans.stop.tolist()]))
            case CatchUpJob():
                return None
            case DraftJob():
                self._drafter_of.update(dict.fromkeys(job.spans.rows.tolist(), job.drafter))
                confidence = np.full(len(job.spans), 0.5) if job.measure_confidence else None
                return DraftResult(job.num_speculative_tokens, confidence)
            case VerifyJob(spans):
                limit = np.array([self._accepts[self._drafter_of.get(row, 0)] for row in spans.rows.tolist()])
                accepted = np.minimum(limit, job.num_drafted)
                tokens = [
                    [self._token(newest + 1 + offset) for offset in range(int(accepted.max()) + 1)]
                    for newest in spans.start.tolist()
                ]
                return VerifyResult(np.array(tokens), accepted + 1)
