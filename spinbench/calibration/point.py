"""What is timed: single forward passes, jobs, and the loop between jobs. Torch-free, so that profiles can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.cost_model import JobKind
from spinbench.control.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob
from spinbench.control.layout import LayoutKind, PackedLayout, PaddedLayout

Role = Literal["fit", "held_out"]
"""Points of role `fit` make the cost model, points of role `held_out` score it and nothing else."""
PassAttention = Literal["none"] | LayoutKind
"""How a timed pass attends; `none`: attention left out."""
Ints = tuple[int, ...]

LAYOUTS = {"packed": PackedLayout(), "padded": PaddedLayout()}


@dataclass(frozen=True, slots=True)
class PassPoint:
    """One forward pass: per request the tokens `start` to `stop`."""

    model: str
    attention: PassAttention
    role: Role
    start_tokens: Ints
    stop_tokens: Ints
    num_head_rows: int
    """Rows whose logits are computed and sampled from."""

    @property
    def query_width(self) -> int:
        """Rows that each request takes; 0 = as many as it has."""
        if self.attention in ("none", "packed"):
            return 0
        return max(stop - start for start, stop in zip(self.start_tokens, self.stop_tokens, strict=True))

    @property
    def num_rows(self) -> int:
        """Rows that the linear layers run on."""
        own = sum(self.stop_tokens) - sum(self.start_tokens)
        return self.query_width * len(self.stop_tokens) or own


@dataclass(frozen=True, slots=True)
class JobPoint:
    """One job, in plain tuples with one entry per request."""

    kind: JobKind
    lane: str
    layout: LayoutKind | Literal[""]
    """Of a verify job; empty for others."""
    role: Role
    start_tokens: Ints
    stop_tokens: Ints
    num_speculative_tokens: Ints
    """Of a draft job; empty for others."""
    by_lookup: Ints
    """1 = copied. Of a draft job; empty for others."""

    def job(self, drafter: int = 0) -> Job:
        """The job as the serving loop would submit it; `drafter` is the lane's place among the drafters of the run."""
        spans = TokenSpans(np.arange(len(self.stop_tokens)), _ints(self.start_tokens), _ints(self.stop_tokens))
        if self.kind == "prefill":
            return PrefillJob(spans)
        if self.kind == "verify":
            return VerifyJob(spans, LAYOUTS[self.layout].plan(spans.num_tokens, spans.stop))
        if self.kind == "catch_up":
            return CatchUpJob(drafter, spans)
        return DraftJob(drafter, spans, _ints(self.num_speculative_tokens), _ints(self.by_lookup) == 1, False)


@dataclass(frozen=True, slots=True)
class GapPoint:
    """The loop's own time between the end of a job and the start of the next."""

    kind: JobKind
    next_kind: JobKind
    num_requests: int
    """Of the job that ended."""

    @property
    def was_waiting(self) -> bool:
        """Whether the next job was queued before the first one ended: no decision lies between them."""
        return self.next_kind in ("catch_up", "draft") and self.kind in ("catch_up", "draft")


@dataclass(frozen=True, slots=True)
class Timing:
    """What repeats of one point took."""

    repeats: int
    median_s: float
    p10_s: float
    p90_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Median and spread of some repeats."""
        p10, median, p90 = np.percentile(seconds, [10, 50, 90]).tolist()
        return cls(len(seconds), median, p10, p90)


def _ints(values: Ints) -> IntArray:
    return np.array(values, np.int64)
