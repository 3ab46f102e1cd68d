"""What is timed: single forward passes, jobs, and the loop between jobs. Torch-free, so that profiles can be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.costs.job_cost import JobKind
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutKind, LayoutPlan
from spinbench.control.layout.protocol import VerificationLayout

Role = Literal["fit", "held_out"]
"""Points of role `fit` make the cost model, points of role `held_out` score it and nothing else."""
PassAttention = Literal["none"] | LayoutKind
"""How a timed pass attends; `none`: attention left out."""
Ints = tuple[int, ...]


def layout_of(kind: LayoutKind, layout_tokens: int) -> VerificationLayout:
    """The layout that a point was timed in; of `grouped` the window, of `decomposed` the width of equal pieces."""
    match kind:
        case "packed":
            return PackedLayout()
        case "padded":
            return PaddedLayout()
        case "grouped":
            return GroupedLayout(window_tokens=layout_tokens)
        case "decomposed":
            return DecomposedLayout(width=layout_tokens)


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
    layout_tokens: int = 0
    """See `layout_of`."""

    @property
    def spans(self) -> TokenSpans:
        """The tokens, of requests numbered from 0."""
        return _spans(self.start_tokens, self.stop_tokens)

    @property
    def plan(self) -> LayoutPlan:
        """How attention is laid out. Without attention, as if packed."""
        spans, kind = self.spans, self.attention if self.attention != "none" else "packed"
        return layout_of(kind, self.layout_tokens).plan(spans.num_tokens, spans.stop)

    @property
    def num_rows(self) -> int:
        """Rows that the linear layers run on."""
        own = sum(self.stop_tokens) - sum(self.start_tokens)
        if self.attention != "padded":
            return own
        return len(self.stop_tokens) * max(np.subtract(self.stop_tokens, self.start_tokens).tolist())


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
    layout_tokens: int = 0
    """See `layout_of`."""

    def job(self, drafter: int = 0) -> Job:
        """The job as the serving loop would submit it; `drafter` is the lane's place among the drafters of the run."""
        spans = _spans(self.start_tokens, self.stop_tokens)
        if self.kind == "prefill":
            return PrefillJob(spans)
        if self.kind == "verify":
            layout = layout_of(self.layout or "packed", self.layout_tokens)
            return VerifyJob(spans, layout.plan(spans.num_tokens, spans.stop))
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
    mean_s: float
    """Repeats longer than twice the median counted as twice: how far a rare interruption goes is not the point's."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Median, spread and mean of some repeats."""
        p10, median, p90 = np.percentile(seconds, [10, 50, 90]).tolist()
        return cls(len(seconds), median, p10, p90, float(np.minimum(seconds, 2 * median).mean()))

    @property
    def standard_error(self) -> float:
        """Of the median, as a share of it, as if the repeats were drawn from a normal law.

        Its middle 80 % span 2 x 1.2816 standard deviations; a median of many has sqrt(pi / 2) times a mean's error.
        Infinite for a single one.
        """
        if self.repeats == 1:
            return math.inf
        deviation_s = (self.p90_s - self.p10_s) / (2 * 1.2816)
        return math.sqrt(math.pi / 2 / self.repeats) * deviation_s / self.median_s


def _spans(starts: Ints, stops: Ints) -> TokenSpans:
    return TokenSpans(np.arange(len(stops)), _ints(starts), _ints(stops))


def _ints(values: Ints) -> IntArray:
    return np.array(values, np.int64)
