"""Predicts how long a job takes: its forward passes, what the host does around them, and the gap between two jobs.

Time of a pass = forward(rows) + head(rows with logits) + attention(requests, rows, keys). Time of a job = factor x its
passes + host time, affine in passes and requests. Every coefficient is at least 0, every curve never falls: so no
prediction is negative, and none falls when a job grows.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import Amount, RectangleAttention, RectangleShape
from spinbench.control.costs.job_cost import KINDS, NO_GAP, GapCost, JobCost, JobKind
from spinbench.control.costs.model_cost import DrafterCost, ModelCost
from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.profiled_range import BeyondProfile
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.draft_series import DraftSeries
from spinbench.control.jobs.job import DraftJob, Job, PrefillJob, VerifyJob
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError


@dataclass(frozen=True)
class CostModel:
    """Seconds of any job of a run with this target and these drafters, in their order.

    Where a job is larger than what was profiled the prediction goes on linearly, and `warnings` says so once for each
    operation and limit. It is plain data: picklable, and the same numbers give the same predictions.
    """

    target: ModelCost
    drafters: tuple[DrafterCost, ...]
    prefill: JobCost
    verify: Mapping[LayoutKind, JobCost]
    gaps: Mapping[JobKind, GapCost]
    """By the kind of the job that ended."""
    overlap: Overlap = NOT_SLOWED
    """How two lanes of the device slow each other, if it was measured; times are of jobs that have it to themselves."""
    _beyond: BeyondProfile = field(default_factory=BeyondProfile, init=False, repr=False, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was asked for outside the profiled ranges so far, one line for each operation and limit."""
        return self._beyond.lines

    def job_s(self, job: Job) -> float:
        """Seconds from a job's start to its end on its lane."""
        if isinstance(job, DraftJob):
            return self._draft_job_s(job)
        if isinstance(job, VerifyJob):
            return self._verify_job_s(job)
        starts, stops = job.spans.start.tolist(), job.spans.stop.tolist()
        rows = sum(stops) - sum(starts)
        if isinstance(job, PrefillJob):
            passes_s = self._ragged_s(self.target, starts, stops, rows, len(stops))
            return self.prefill.of(passes_s, len(stops), 1)
        drafter = self.drafters[job.drafter]
        model, catch_up = drafter.profiled(drafter.model, "passes"), drafter.profiled(drafter.catch_up, "catch-ups")
        head_rows = 1 if job.num_scored is None else int(job.num_scored.sum())
        return catch_up.of(self._ragged_s(model, starts, stops, rows, head_rows), len(stops), 1)

    def gap_s(self, job: Job) -> float:
        """Seconds between the end of this job and the start of the next, in which the loop takes its result in."""
        return self.gap(KINDS[type(job)]).of(len(job.spans.rows))

    def series_s(self, series: DraftSeries) -> list[tuple[float, float]]:
        """`job_s` and `gap_s` of each job of a series of chains by models, in their order."""
        spans, gap = series.spans, self.gap("draft")
        if np.count_nonzero(spans.start) < len(spans):  # a whole context's time is no matter of sums
            return [(self.job_s(job), self.gap_s(job)) for job in series.jobs()]
        tokens = spans.num_tokens
        columns = tokens, tokens * spans.stop, spans.stop, series.num_speculative_tokens
        all_rows, all_cells, all_stops, all_lengths = (column.tolist() for column in columns)
        times: list[tuple[float, float]] = []
        for index, ((number, _), part) in enumerate(zip(series.groups.parts, series.groups.slices, strict=True)):
            if series.catch_ups and (catch_up := series.catch_ups[index]) is not None:
                times.append((self.job_s(catch_up), self.gap_s(catch_up)))
            drafter, rows, stops = self.drafters[number], all_rows[part], all_stops[part]
            model, count, num_rows = drafter.profiled(drafter.model, "passes"), len(stops), sum(rows)
            self._beyond.check_attention(model, count, max(stops))
            extended, keys, cells = count - rows.count(1), sum(stops), sum(all_cells[part])
            attention_s = model.ragged.sums_s(count, keys, extended, num_rows - count, cells - keys)
            first_s = self._pass_s(model, num_rows, count, attention_s)
            times.append((self._chains_s(drafter, model, first_s, stops, all_lengths[part]), gap.of(count)))
        return times

    def gap(self, kind: JobKind) -> GapCost:
        """What the loop takes after a job of this kind; nothing where that was not profiled."""
        return self.gaps.get(kind, NO_GAP)

    def draft_s(
        self,
        drafter: int,
        num_requests: int,
        num_speculative_tokens: int,
        context_tokens: Amount,
        *,
        unseen_tokens: int = 1,
        by_lookup: bool | None = None,
    ) -> Amount:
        """Seconds of a draft job of requests that are alike; `context_tokens` may be a mean, or an array of cases.

        `by_lookup` None: as the drafter does by itself, by a model or n-gram table if it has one. 0 for no request or
        no token.
        """
        if num_requests < 1 or num_speculative_tokens < 1:
            return 0.0 * context_tokens
        cost = self.drafters[drafter]
        if by_lookup or (by_lookup is None and cost.draft is None):
            return cost.profiled(cost.lookup, "lookups").of(0.0 * context_tokens, num_requests, 0)
        draft = cost.profiled(cost.draft, "drafts")
        if cost.model is None:
            return draft.of(0.0 * context_tokens, num_requests, num_speculative_tokens)
        model = cost.model
        attention = model.ragged
        if unseen_tokens == 1:
            first_s = attention.decode_s(context_tokens)
        else:
            first_s = attention.extend_s(unseen_tokens, context_tokens)
        steps = num_speculative_tokens - 1
        further_s = attention.decode_s(context_tokens + num_speculative_tokens / 2)  # their mean length
        rows_s = self._rows_s(model, num_requests * unseen_tokens, num_requests)
        rows_s += steps * self._rows_s(model, num_requests, num_requests) + num_speculative_tokens * attention.pass_s
        passes_s = rows_s + num_requests * (first_s + steps * further_s)
        return draft.of(passes_s, num_requests, num_speculative_tokens)

    def verify_s(
        self,
        num_requests: int,
        num_drafted: int,
        context_tokens: Amount,
        layout: LayoutKind = "packed",
    ) -> Amount:
        """Seconds of a verify job of requests that are alike, each with `num_drafted` tokens behind its context.

        With 0 drafted tokens it is a step of plain decoding. `context_tokens` may be a mean, or an array of cases.
        Requests that are alike fill one rectangle, and are not decomposed.
        """
        rows, keys = num_drafted + 1, context_tokens + num_drafted
        model, cost = self.target, self._verify_cost(layout)
        if layout == "packed":
            own_s = model.ragged.decode_s(keys) if rows == 1 else model.ragged.extend_s(rows, keys)
            attention_s = model.ragged.pass_s + num_requests * own_s
        else:
            all_keys = num_requests * keys
            shape = RectangleShape(1, num_requests, num_requests * rows, all_keys, rows * all_keys)
            attention_s = self._rectangle(layout).of(shape)
        passes_s: Any = self._rows_s(model, num_requests * rows, num_requests * rows) + attention_s
        return cost.of(passes_s, num_requests, 1)

    def _verify_job_s(self, job: VerifyJob) -> float:
        layout, spans = job.layout, job.spans
        model, cost, count = self.target, self._verify_cost(layout.kind), len(spans.rows)
        self._beyond.check_attention(model, count, max(spans.stop.tolist()))
        if layout.kind == "packed":
            rows, keys = layout.query_tokens, layout.key_tokens
            if np.count_nonzero(spans.start) == count:
                extended = count - spans.num_tokens.tolist().count(1)
                attention_s = model.ragged.sums_s(count, keys, extended, rows - count, layout.useful_cells - keys)
            else:
                attention_s = model.ragged.requests_s(spans.start.tolist(), spans.stop.tolist())
            return cost.of(self._pass_s(model, rows, rows, attention_s), count, 1)
        own_rows = int(spans.num_tokens.sum())
        passes_s = self._rows_s(model, count * layout.query_width or own_rows, own_rows)
        passes_s += self._rectangle(layout.kind).of(layout.shape)
        return cost.of(passes_s, count, 1)

    def _draft_job_s(self, job: DraftJob) -> float:
        drafter = self.drafters[job.drafter]
        spans, depth, copied = job.spans, job.num_speculative_tokens, int(np.count_nonzero(job.by_lookup))
        total = 0.0
        if copied:
            total += drafter.profiled(drafter.lookup, "lookups").of(0.0, copied, 0)
            if copied == len(spans.rows):
                return total
            spans, depth = spans.only(~job.by_lookup), depth[~job.by_lookup]
        starts, stops, lengths = spans.start.tolist(), spans.stop.tolist(), depth.tolist()
        draft, count, model = drafter.profiled(drafter.draft, "drafts"), len(stops), drafter.model
        if model is None:
            return total + draft.of(0.0, count, max(lengths))
        first_s = self._ragged_s(model, starts, stops, sum(stops) - sum(starts), count)
        if job.tree is None:
            return total + self._chains_s(drafter, model, first_s, stops, lengths)
        further_s = self._tree_steps_s(model, job.tree, depth, spans.stop)
        return total + draft.of(first_s + further_s, count, max(lengths))

    def _chains_s(
        self, drafter: DrafterCost, model: ModelCost, first_s: float, stops: Sequence[int], lengths: Sequence[int]
    ) -> float:
        """A draft job of chains by a model, of `lengths` tokens behind `stops` known ones; the first pass is known."""
        draft, count, longest = drafter.profiled(drafter.draft, "drafts"), len(stops), max(lengths)
        attention, passes_s = model.ragged, first_s + (longest - 1) * model.ragged.pass_s
        # one row a step, with stop + 1 to stop + length - 1 keys: length / 2 more than stop in the mean
        if longest == min(lengths):
            passes_s += (longest - 1) * self._rows_s(model, count, count)
            passes_s += (longest - 1) * count * attention.decode_s(sum(stops) / count + longest / 2)
        else:
            rising = sorted(lengths)
            for step in range(1, longest):
                active = count - bisect_right(rising, step)
                passes_s += self._rows_s(model, active, active)
            for stop, length in zip(stops, lengths, strict=True):
                passes_s += (length - 1) * attention.decode_s(stop + length / 2)
        return draft.of(passes_s, count, longest)

    def _tree_steps_s(self, model: ModelCost, tree: TreeShape, lengths: IntArray, stops: IntArray) -> float:
        """The passes over the nodes at each depth but the last."""
        total = 0.0
        for step in range(1, int(lengths.max())):
            active = lengths > step
            count, width = int(np.count_nonzero(active)), int(tree.widths[step])
            mean_keys = float((stops[active] + tree.num_keys[lengths[active], step]).mean())
            attention = model.ragged
            own_s = attention.decode_s(mean_keys) if width == 1 else attention.extend_s(width, mean_keys)
            total += self._rows_s(model, count * width, count * width) + attention.pass_s + count * own_s
        return total

    def _ragged_s(
        self, model: ModelCost, starts: Sequence[int], stops: Sequence[int], num_rows: int, num_head_rows: int
    ) -> float:
        """One pass over ragged rows."""
        self._beyond.check_attention(model, len(stops), max(stops))
        return self._pass_s(model, num_rows, num_head_rows, model.ragged.requests_s(starts, stops))

    def _pass_s(self, model: ModelCost, num_rows: int, num_head_rows: int, attention_s: float) -> float:
        """The same, its attention to each request's tokens being known."""
        return self._rows_s(model, num_rows, num_head_rows) + model.ragged.pass_s + attention_s

    def _rows_s(self, model: ModelCost, num_rows: int, num_head_rows: int) -> float:
        """A pass without its attention."""
        if num_rows > model.forward.max_count or num_head_rows > model.head.max_count:
            self._beyond.note_rows(model, num_rows, num_head_rows)
        return model.rows_s(num_rows, num_head_rows)

    def _verify_cost(self, layout: LayoutKind) -> JobCost:
        if layout not in self.verify:
            raise UserError(f"the profile has no verify jobs of layout {layout}; it has {', '.join(self.verify)}")
        return self.verify[layout]

    def _rectangle(self, layout: LayoutKind) -> RectangleAttention:
        if layout not in self.target.rectangle:
            raise UserError(f"the profile has no passes of layout {layout}; profile the target with layouts=[{layout}]")
        return self.target.rectangle[layout]
