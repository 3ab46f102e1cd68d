"""A body without models: every job takes a stated time, and the text and what is accepted follow from a rule."""

from collections import deque

from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    PrefillJob,
    PrefillResult,
    VerifyJob,
    VerifyResult,
)

EOS = 0


def true_token(position: int) -> int:
    """The text: token at a position, the same for every request; never the end token."""
    return 1 + position % 50


class ScriptedBody:
    """One lane on a clock of its own. Drafter d gets `accepts[d]` tokens of each draft accepted."""

    def __init__(self, accepts: tuple[int, ...] = (), job_s: float = 1.0, eos_at: int | None = None) -> None:
        self._accepts = accepts
        self._job_s = job_s
        self._eos_at = eos_at
        self._clock_s = 0.0
        self._queue: deque[Job] = deque()
        self.jobs: list[Job] = []

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
        return JobDone(job, self._result(job), "lane", start_s, self._clock_s)

    def _token(self, position: int) -> int:
        return EOS if position == self._eos_at else true_token(position)

    def _result(self, job: Job) -> PrefillResult | DraftResult | VerifyResult | None:
        match job:
            case PrefillJob(spans):
                return PrefillResult(tuple(self._token(span.stop) for span in spans))
            case CatchUpJob():
                return None
            case DraftJob(_, items, measure):
                drafted = tuple(item.num_speculative_tokens for item in items)
                return DraftResult(drafted, (0.5,) * len(items) if measure else None)
            case VerifyJob(items, _):
                emitted = []
                for item in items:
                    limit = 0 if item.drafter is None else self._accepts[item.drafter]
                    accepted = min(limit, item.num_drafted)
                    newest = item.state.num_tokens
                    emitted.append(tuple(self._token(newest + offset) for offset in range(accepted + 1)))
                return VerifyResult(tuple(emitted))
