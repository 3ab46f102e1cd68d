"""The jobs of a run, put away as columns of spans while it goes on."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.job import CatchUpJob, DraftJob, Job, JobDone, PrefillJob, VerifyJob, job_as_run
from spinbench.control.ready_drafts import NO_JOB, ReadyDrafts
from spinbench.control.record import SpanColumns, SpanKind

SPANS_PER_CHUNK = 4096
"""Jobs whose work is counted in one go, after which they are forgotten."""

_KINDS: dict[type[Job], SpanKind] = {
    PrefillJob: "prefill",
    CatchUpJob: "catch_up",
    DraftJob: "draft",
    VerifyJob: "verify",
}


def kind_of(job: Job) -> SpanKind:
    """What a span of the job is called."""
    return "draft_ahead" if isinstance(job, DraftJob) and job.is_ahead else _KINDS[type(job)]


class SpanLog:
    """Takes ended jobs one by one, and forgets them once they are in columns."""

    def __init__(self) -> None:
        self._num_spans = 0
        self._open: list[tuple[JobDone, int]] = []
        self._chunks: list[_Chunk] = []
        self._ahead: dict[int, int] = {}
        """Which span each job is that drafted ahead, by the job's number."""
        self._used_tokens: dict[int, int] = defaultdict(int)
        """By span."""

    def add(self, done: JobDone, round_index: int, ahead_job: int = NO_JOB) -> None:
        """A job that ended; `round_index` -1 = it belongs to no round, `ahead_job` its number if it drafted ahead."""
        if ahead_job != NO_JOB:
            self._ahead[ahead_job] = self._num_spans
        self._num_spans += 1
        self._open.append((done, round_index))
        if len(self._open) == SPANS_PER_CHUNK:
            self._close_chunk()

    def use(self, ready: ReadyDrafts) -> None:
        """Drafts that were made ahead were verified."""
        own = ready.is_there
        for job, num_tokens in zip(ready.job[own].tolist(), ready.num_tokens[own].tolist(), strict=True):
            self._used_tokens[self._ahead[job]] += num_tokens

    def columns(self, request_ids: Sequence[str]) -> SpanColumns:
        """All jobs so far; `request_ids` are the names that rows stand for."""
        self._close_chunk()
        chunks = self._chunks or [_chunk([])]
        counts = np.concatenate([chunk.num_requests for chunk in chunks])
        work = [np.concatenate(column) for column in zip(*(chunk.work for chunk in chunks), strict=True)]
        used_tokens = np.zeros(len(counts), np.int64)
        used_tokens[list(self._used_tokens)] = list(self._used_tokens.values())
        return SpanColumns(
            tuple(request_ids),
            tuple(lane for chunk in chunks for lane in chunk.lane),
            tuple(kind for chunk in chunks for kind in chunk.kind),
            np.concatenate([chunk.start_s for chunk in chunks]),
            np.concatenate([chunk.end_s for chunk in chunks]),
            np.concatenate([chunk.round_index for chunk in chunks]),
            np.concatenate(([0], np.cumsum(counts))),
            np.concatenate([chunk.rows for chunk in chunks], dtype=np.int64),
            *work,
            used_tokens=used_tokens,
        )

    def _close_chunk(self) -> None:
        if self._open:
            self._chunks.append(_chunk(self._open))
            self._open.clear()


class _Chunk(NamedTuple):
    """Some jobs, a column each; `rows` has those of all jobs behind each other."""

    lane: list[str]
    kind: list[SpanKind]
    start_s: FloatArray
    end_s: FloatArray
    round_index: IntArray
    num_requests: IntArray
    rows: np.ndarray
    """int32"""
    work: "_Work"


def _chunk(spans: Sequence[tuple[JobDone, int]]) -> _Chunk:
    jobs = [job_as_run(done.job, done.result) for done, _ in spans]
    rows = [job.spans.rows for job in jobs]
    times = [(done.start_s, done.end_s) for done, _ in spans]
    start_s, end_s = np.array(times, np.float64).reshape(-1, 2).T
    return _Chunk(
        [done.lane for done, _ in spans],
        [kind_of(job) for job in jobs],
        start_s,
        end_s,
        np.array([index for _, index in spans], np.int64),
        np.array([len(each) for each in rows], np.int64),
        np.concatenate(rows, dtype=np.int32) if rows else np.empty(0, np.int32),
        _work(jobs),
    )


class _Work(NamedTuple):
    """Columns of the spans, int [jobs], as `SpanRecord` explains them."""

    num_tokens: IntArray
    useful_cells: IntArray
    padded_cells: IntArray
    query_tokens: IntArray
    key_tokens: IntArray
    peak_key_tokens: IntArray


def _work(jobs: Sequence[Job]) -> _Work:
    """What each job computes and reads, all jobs in one go.

    Only verification can pad or copy. A draft runs the known tokens in one pass, then one row per further token; the
    last token of a path is not fed back, and a lookup runs nothing. A request's rows are computed against all its keys
    that are filled, also those that a mask hides: of later tokens, and of other branches of a tree.
    """
    if not jobs:
        return _Work(*(np.empty(0, np.int64) for _ in _Work._fields))
    spans = [job.spans for job in jobs]
    start, stop = np.concatenate([each.start for each in spans]), np.concatenate([each.stop for each in spans])
    sizes = np.array([len(each.rows) for each in spans])
    first = np.cumsum(sizes) - sizes
    of_drafts = [isinstance(job, DraftJob) for job in jobs]
    drafts = [job for job in jobs if isinstance(job, DraftJob)]
    steps = np.zeros_like(stop)
    if drafts:
        lengths = np.concatenate([job.num_speculative_tokens for job in drafts])
        copied = np.concatenate([job.by_lookup for job in drafts])
        is_draft = np.repeat(of_drafts, sizes)
        steps[is_draft] = np.where(copied, 0, lengths - 1)
    rows_of_steps = steps  # one row each, and of trees those of a depth
    keys_of_steps = cells_of_steps = steps * stop + steps * (steps + 1) // 2
    if any(job.tree is not None for job in drafts):
        rows_of_steps, cells_of_steps = steps.copy(), cells_of_steps.copy()
        for job, begin in zip(jobs, first.tolist(), strict=True):
            if isinstance(job, DraftJob) and job.tree is not None:
                own = begin + np.flatnonzero(~job.by_lookup)
                rows, keys, cells = job.tree.step_sums[:, steps[own] + 1]
                rows_of_steps[own] = rows
                keys_of_steps[own] = steps[own] * stop[own] + keys
                cells_of_steps[own] = rows * stop[own] + cells
    tokens = stop - start + rows_of_steps
    cells = (stop - start) * stop + cells_of_steps
    keys = np.where(stop > start, stop, 0) + keys_of_steps
    num_tokens, num_cells, num_keys = (np.add.reduceat(each, first) for each in (tokens, cells, keys))
    padded, peak, num_queries = np.zeros_like(num_tokens), np.zeros_like(num_tokens), num_tokens.copy()
    plans = [(place, job.layout) for place, job in enumerate(jobs) if isinstance(job, VerifyJob)]
    if plans:
        places = [place for place, _ in plans]
        counts = [(p.padded_cells, p.query_tokens, p.key_tokens, p.peak_key_tokens) for _, p in plans]
        padded[places], num_queries[places], num_keys[places], peak[places] = np.array(counts, np.int64).T
    return _Work(num_tokens, num_cells, padded, num_queries, num_keys, peak)
