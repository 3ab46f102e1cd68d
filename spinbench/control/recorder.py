"""Collects what happened, in the order it happened, into a `RunRecord`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.job import CatchUpJob, DraftJob, DraftResult, Job, JobDone, PrefillJob, VerifyJob
from spinbench.control.ready_drafts import NO_JOB
from spinbench.control.record import FinishReason, RequestRecord, RoundColumns, RunRecord, SpanColumns, SpanKind
from spinbench.control.request_table import RequestTable
from spinbench.control.round import Round
from spinbench.control.text import Text

_KINDS: dict[type[Job], SpanKind] = {
    PrefillJob: "prefill",
    CatchUpJob: "catch_up",
    DraftJob: "draft",
    VerifyJob: "verify",
}


def kind_of(job: Job) -> SpanKind:
    """What a span of the job is called."""
    return "draft_ahead" if isinstance(job, DraftJob) and job.ahead else _KINDS[type(job)]


class Recorder:
    """Keeps references to the arrays of each round and job; puts them together when the run ends."""

    def __init__(self, table: RequestTable, text: Text, drafters: Sequence[str], start_s: float) -> None:
        """`drafters` are the names that the rounds' numbers of drafters stand for."""
        self._table = table
        self._text = text
        self._drafters = tuple(drafters)
        self._start_s = start_s
        self._requests: list[RequestRecord] = []
        self._rounds: list[tuple[Round, IntArray, float, float]] = []
        self._spans: list[tuple[JobDone, int]] = []
        self._ahead_spans: dict[int, int] = {}
        """Where in `_spans` a job is that drafted ahead, by its number."""

    def add_span(self, done: JobDone, round_index: int, ahead_job: int = NO_JOB) -> None:
        """A job that ended; `ahead_job` is its number if it drafted ahead."""
        if ahead_job != NO_JOB:
            self._ahead_spans[ahead_job] = len(self._spans)
        self._spans.append((done, round_index))

    def add_round(self, round_: Round, accepted: IntArray, done: JobDone) -> None:
        """A round whose verification is `done`."""
        self._rounds.append((round_, accepted, done.start_s, done.end_s))

    def add_request(self, row: int, finish_s: float | None, reason: FinishReason) -> None:
        """A request that ended."""
        table, request = self._table, self._table.requests[row]
        output_tokens = int(table.num_tokens[row] - table.num_prompt_tokens[row])
        self._requests.append(
            RequestRecord(
                request_id=request.id,
                category=request.category,
                seed=request.seed,
                arrival_s=float(table.arrival_s[row]),
                first_scheduled_s=_known(table.first_scheduled_s[row]),
                first_token_s=_known(table.first_token_s[row]),
                finish_s=finish_s,
                prompt_tokens=int(table.num_prompt_tokens[row]),
                output_tokens=output_tokens,
                max_new_tokens=request.max_new_tokens,
                finish_reason=reason,
                num_preemptions=int(table.num_preemptions[row]),
                num_prefill_emitted_tokens=int(table.num_prefill_emitted_tokens[row]),
                prompt_token_ids=self._text.prompt_token_ids(row),
                output_token_ids=self._text.output_token_ids(row, output_tokens),
            )
        )

    def finish(self, end_s: float, complete: bool) -> RunRecord:
        """Everything recorded."""
        return RunRecord(
            requests=tuple(self._requests),
            rounds=self._round_columns(),
            spans=self._span_columns(),
            drafters=self._drafters,
            start_s=self._start_s,
            end_s=end_s,
            complete=complete,
        )

    def _round_columns(self) -> RoundColumns:
        rounds = [round_ for round_, *_ in self._rounds]
        sizes = np.array([len(round_.rows) for round_ in rounds], np.int64)

        def column(name: str, dtype: type) -> np.ndarray:
            arrays = [getattr(round_, name) for round_ in rounds]
            return np.concatenate(arrays, dtype=dtype) if arrays else np.empty(0, dtype)

        def each(values: list, dtype: type) -> np.ndarray:
            return np.repeat(np.array(values, dtype), sizes)

        accepted = [accepted for _, accepted, *_ in self._rounds]
        return RoundColumns(
            request_ids=tuple(request.id for request in self._table.requests),
            drafters=self._drafters,
            round_index=each([round_.index for round_ in rounds], np.int64),
            row=column("rows", np.int64),
            drafter=column("drafter", np.int64),
            num_speculative_tokens=column("num_speculative_tokens", np.int64),
            drafted=column("drafted", np.int64),
            draft_depth=column("draft_depth", np.int64),
            accepted=np.concatenate(accepted) if accepted else np.empty(0, np.int64),
            context_tokens=column("context_tokens", np.int64),
            lookup_match_order=column("lookup_match_order", np.int64),
            catch_up_tokens=column("catch_up_tokens", np.int64),
            batch_size=each(sizes.tolist(), np.int64),
            draft_start_s=column("draft_start_s", np.float64),
            draft_end_s=column("draft_end_s", np.float64),
            verify_start_s=each([start_s for *_, start_s, _ in self._rounds], np.float64),
            verify_end_s=each([end_s for *_, end_s in self._rounds], np.float64),
        )

    def _span_columns(self) -> SpanColumns:
        jobs = [done.job for done, _ in self._spans]
        rows = [job.spans.rows for job in jobs]
        work = _work([_as_run(done) for done, _ in self._spans])
        return SpanColumns(
            tuple(request.id for request in self._table.requests),
            tuple(done.lane for done, _ in self._spans),
            tuple(kind_of(job) for job in jobs),
            np.array([done.start_s for done, _ in self._spans], np.float64),
            np.array([done.end_s for done, _ in self._spans], np.float64),
            np.array([index for _, index in self._spans], np.int64),
            np.cumsum([0, *map(len, rows)]).astype(np.int64),
            np.concatenate(rows) if rows else np.empty(0, np.int64),
            work.num_tokens,
            work.useful_cells,
            work.padded_cells,
            work.query_tokens,
            work.key_tokens,
            work.peak_key_tokens,
            self._used_tokens(),
        )

    def _used_tokens(self) -> IntArray:
        """Per span, tokens drafted ahead that a round verified."""
        used = np.zeros(len(self._spans), np.int64)
        for round_, *_ in self._rounds if self._ahead_spans else ():
            for place in np.flatnonzero(round_.drafted_ahead).tolist():
                used[self._ahead_spans[int(round_.ahead_job[place])]] += round_.drafted[place]
        return used


def _as_run(done: JobDone) -> Job:
    """The job as far as it was done: a draft may have ended early."""
    job, result = done.job, done.result
    return job.as_run(result) if isinstance(job, DraftJob) and isinstance(result, DraftResult) else job


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
    start = np.concatenate([job.spans.start for job in jobs])
    stop = np.concatenate([job.spans.stop for job in jobs])
    steps = np.concatenate(
        [
            np.where(job.by_lookup, 0, job.num_speculative_tokens - 1)
            if isinstance(job, DraftJob)
            else np.zeros(len(job.spans), np.int64)
            for job in jobs
        ]
    )
    first = np.cumsum([0, *(len(job.spans) for job in jobs[:-1])])
    rows_of_steps = steps  # one row each, and of trees those of a depth
    keys_of_steps = cells_of_steps = steps * stop + steps * (steps + 1) // 2
    trees = [(job, begin) for job, begin in zip(jobs, first.tolist(), strict=True) if isinstance(job, DraftJob)]
    if any(job.tree is not None for job, _ in trees):
        rows_of_steps, cells_of_steps = steps.copy(), cells_of_steps.copy()
        for job, begin in trees:
            if job.tree is not None:
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


def _known(time_s: float) -> float | None:
    return None if np.isnan(time_s) else float(time_s)
