"""A stretch of a run's jobs, as columns of spans: so many that their work is counted in one go."""

from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.body import JobDone, JobTimes
from spinbench.control.jobs.draft_series import SeriesDone
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob, job_as_run
from spinbench.control.jobs.result import DidNotFit, Result
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.records.span_record import SpanKind, SpanWork

_KINDS: dict[type[Job], SpanKind] = {
    PrefillJob: "prefill",
    CatchUpJob: "catch_up",
    DraftJob: "draft",
    VerifyJob: "verify",
}
OUT_OF_MEMORY: SpanKind = "out_of_memory"
"""Of a job of any kind that did not fit on its device."""


def kind_of(job: Job, result: Result = None) -> SpanKind:
    """What a span of the job is called, once it has its `result`."""
    if isinstance(result, DidNotFit):
        return OUT_OF_MEMORY
    return "draft_ahead" if isinstance(job, DraftJob) and job.is_ahead else _KINDS[type(job)]


class SpanColumnsPart(NamedTuple):
    """Some jobs, a column each; `rows` has those of all jobs behind each other."""

    lane: list[str]
    kind: list[SpanKind]
    start_s: FloatArray
    end_s: FloatArray
    round_index: IntArray
    num_requests: IntArray
    rows: np.ndarray
    """int32"""
    work: SpanWork


class SpanChunk:
    """Takes ended jobs in; times are not asked for before all are there."""

    def __init__(self) -> None:
        self._lane: list[str] = []
        self._kind: list[SpanKind] = []
        self._times: list[JobTimes] = []
        self._round_index: list[int] = []
        self._sizes: list[int] = []
        """Requests of each job. The arrays that follow, behind each other, have an entry for each request of each."""
        self._rows: list[IntArray] = []
        self._start: list[IntArray] = []
        self._stop: list[IntArray] = []
        self._is_draft: list[bool] = []
        self._lengths: list[IntArray] = []
        """Of drafts, as the following."""
        self._copied: list[BoolArray] = []
        self._trees: list[tuple[int, DraftJob, TreeShape]] = []
        """Jobs, by number, whose drafts branch."""
        self._plans: list[tuple[int, LayoutPlan]] = []
        """Those that may pad or copy."""

    def __len__(self) -> int:
        """Jobs."""
        return len(self._sizes)

    def add(self, done: JobDone, round_index: int) -> None:
        """A job that ended."""
        job = job_as_run(done.job, done.result)
        if isinstance(job, DraftJob) and job.tree is not None:
            self._trees.append((len(self), job, job.tree))
        elif isinstance(job, VerifyJob):
            self._plans.append((len(self), job.layout))
        self._add(job, kind_of(job, done.result), done.lane, done.times, round_index)

    def _add(self, job: Job, kind: SpanKind, lane: str, times: JobTimes, round_index: int) -> None:
        is_draft = isinstance(job, DraftJob)
        if is_draft:
            self._lengths.append(job.num_speculative_tokens)
            self._copied.append(job.by_lookup)
        self._lane.append(lane)
        self._kind.append(kind)
        self._times.append(times)
        self._round_index.append(round_index)
        self._is_draft.append(is_draft)
        self._sizes.append(len(job.spans.rows))
        self._add_spans(job.spans)

    def _add_spans(self, spans: TokenSpans) -> None:
        self._rows.append(spans.rows)
        self._start.append(spans.start)
        self._stop.append(spans.stop)

    def add_series(self, done: SeriesDone, round_index: int) -> None:
        """The jobs of a series of chains."""
        series, sizes = done.series, [len(own) for _, own in done.series.groups.parts]
        self._lengths.append(series.num_speculative_tokens)
        self._copied.append(series.by_lookup)
        self._times += done.times
        self._round_index += [round_index] * len(done.times)
        if not series.catch_ups:
            self._lane += done.lanes
            self._kind.extend("draft" for _ in sizes)
            self._is_draft += [True] * len(sizes)
            self._sizes += sizes
            self._add_spans(series.spans)
            return
        rows, start, stop = series.spans.rows, series.spans.start, series.spans.stop
        for lane, size, part, catch_up in zip(done.lanes, sizes, series.groups.slices, series.catch_ups, strict=True):
            if catch_up is not None:
                self._lane.append(lane)
                self._kind.append("catch_up")
                self._is_draft.append(False)
                self._sizes.append(len(catch_up.spans.rows))
                self._add_spans(catch_up.spans)
            self._lane.append(lane)
            self._kind.append("draft")
            self._is_draft.append(True)
            self._sizes.append(size)
            self._rows.append(rows[part])
            self._start.append(start[part])
            self._stop.append(stop[part])

    def columns(self) -> SpanColumnsPart:
        """All jobs, of which there is at least one."""
        times = [(each.start_s, each.end_s) for each in self._times]
        start_s, end_s = np.array(times, np.float64).T
        return SpanColumnsPart(
            self._lane,
            self._kind,
            start_s,
            end_s,
            np.array(self._round_index, np.int64),
            np.array(self._sizes, np.int64),
            np.concatenate(self._rows, dtype=np.int32),
            self._work(),
        )

    def _work(self) -> SpanWork:
        """What each job computes and reads, all jobs in one go.

        Only verification can pad or copy. A draft runs the known tokens in one pass, then one row per further token;
        the last token of a path is not fed back, and a lookup runs nothing. A request's rows are computed against all
        its keys that are filled, also those that a mask hides: of later tokens, and of other branches of a tree.
        """
        start, stop, sizes = np.concatenate(self._start), np.concatenate(self._stop), np.array(self._sizes)
        first = np.cumsum(sizes) - sizes
        steps = np.zeros_like(stop)
        if self._lengths:
            lengths, copied = np.concatenate(self._lengths), np.concatenate(self._copied)
            steps[np.repeat(self._is_draft, sizes)] = np.where(copied, 0, lengths - 1)
        rows_of_steps = steps  # one row each, and of trees those of a depth
        keys_of_steps = cells_of_steps = steps * stop + steps * (steps + 1) // 2
        if self._trees:
            rows_of_steps, cells_of_steps = steps.copy(), cells_of_steps.copy()
            for number, job, tree in self._trees:
                own = first[number] + np.flatnonzero(~job.by_lookup)
                rows, keys, cells = tree.step_sums[:, steps[own] + 1]
                rows_of_steps[own] = rows
                keys_of_steps[own] = steps[own] * stop[own] + keys
                cells_of_steps[own] = rows * stop[own] + cells
        tokens = stop - start + rows_of_steps
        cells = (stop - start) * stop + cells_of_steps
        keys = np.where(stop > start, stop, 0) + keys_of_steps
        num_tokens, num_cells, num_keys = (np.add.reduceat(each, first) for each in (tokens, cells, keys))
        padded, peak, num_queries = np.zeros_like(num_tokens), np.zeros_like(num_tokens), num_tokens.copy()
        if self._plans:
            places = [place for place, _ in self._plans]
            counts = [(p.padded_cells, p.query_tokens, p.key_tokens, p.peak_key_tokens) for _, p in self._plans]
            padded[places], num_queries[places], num_keys[places], peak[places] = np.array(counts, np.int64).T
        return SpanWork(num_tokens, num_cells, padded, num_queries, num_keys, peak)
