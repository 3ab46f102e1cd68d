"""The jobs of a run, put away as columns of spans while it goes on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from spinbench.control.drafting.ready_drafts import NO_JOB, ReadyDrafts
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.draft_series import SeriesDone
from spinbench.control.records.span_chunk import SpanChunk, SpanColumnsPart
from spinbench.control.records.span_record import SpanColumns, SpanWork

SPANS_PER_CHUNK = 512
"""Jobs whose work is counted in one go, after which they are forgotten; so few for the reason that rounds are."""


class SpanLog:
    """Takes ended jobs one by one, and forgets them once they are in columns."""

    def __init__(self) -> None:
        self._num_spans = 0
        self._open = SpanChunk()
        self._chunks: list[SpanColumnsPart] = []
        self._ahead: dict[int, int] = {}
        """Which span each job is that drafted ahead, by the job's number."""
        self._used_tokens: dict[int, int] = defaultdict(int)
        """By span."""

    def add(self, done: JobDone, round_index: int, ahead_job: int = NO_JOB) -> None:
        """A job that ended; `round_index` -1 = it belongs to no round, `ahead_job` its number if it drafted ahead."""
        if ahead_job != NO_JOB:
            self._ahead[ahead_job] = self._num_spans
        self._num_spans += 1
        self._open.add(done, round_index)
        if len(self._open) >= SPANS_PER_CHUNK:
            self._close_chunk()

    def add_series(self, done: SeriesDone, round_index: int) -> None:
        """All drafts of a round, which were made at one go."""
        self._num_spans += len(done.times)
        self._open.add_series(done, round_index)
        if len(self._open) >= SPANS_PER_CHUNK:
            self._close_chunk()

    def use(self, ready: ReadyDrafts) -> None:
        """Drafts that were made ahead were verified."""
        own = ready.is_there
        for job, num_tokens in zip(ready.job[own].tolist(), ready.num_tokens[own].tolist(), strict=True):
            self._used_tokens[self._ahead[job]] += num_tokens

    def columns(self, request_ids: Sequence[str]) -> SpanColumns:
        """All jobs so far; `request_ids` are the names that rows stand for."""
        if not self._num_spans:
            return replace(SpanColumns.of([]), request_ids=tuple(request_ids))
        if len(self._open):
            self._close_chunk()
        chunks = self._chunks
        counts = np.concatenate([chunk.num_requests for chunk in chunks])
        used_tokens = np.zeros(len(counts), np.int64)
        used_tokens[list(self._used_tokens)] = list(self._used_tokens.values())
        return SpanColumns(
            request_ids=tuple(request_ids),
            lane=tuple(lane for chunk in chunks for lane in chunk.lane),
            kind=tuple(kind for chunk in chunks for kind in chunk.kind),
            start_s=np.concatenate([chunk.start_s for chunk in chunks]),
            end_s=np.concatenate([chunk.end_s for chunk in chunks]),
            round_index=np.concatenate([chunk.round_index for chunk in chunks]),
            first_row=np.concatenate(([0], np.cumsum(counts))),
            rows=np.concatenate([chunk.rows for chunk in chunks], dtype=np.int64),
            used_tokens=used_tokens,
            **{
                column.name: np.concatenate([getattr(chunk.work, column.name) for chunk in chunks])
                for column in fields(SpanWork)
            },
        )

    def _close_chunk(self) -> None:
        self._chunks.append(self._open.columns())
        self._open = SpanChunk()
