"""Makes emitted tokens part of the text, and ends requests."""

import logging
from collections.abc import Callable

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.end_tokens import EndTokens
from spinbench.control.jobs.body import Body
from spinbench.control.jobs.job import Job
from spinbench.control.loop_setting import Progress
from spinbench.control.records.recorder import Recorder
from spinbench.control.records.span_chunk import kind_of
from spinbench.control.request_table import RequestTable
from spinbench.control.scheduler import Scheduler
from spinbench.control.text import Text

LOG = logging.getLogger(__name__)


class Committer:
    """The last step of prefills and of rounds: from here on a token cannot be taken back."""

    def __init__(
        self,
        table: RequestTable,
        text: Text,
        ends: EndTokens,
        scheduler: Scheduler,
        recorder: Recorder,
        body: Body,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._table = table
        self._text = text
        self._ends = ends
        self._scheduler = scheduler
        self._recorder = recorder
        self._body = body
        self._on_progress = on_progress
        self._finished_requests = 0
        self._emitted_tokens = 0

    def commit(self, rows: IntArray, token_ids: IntArray, emitted: IntArray, now_s: float) -> BoolArray:
        """Add the first `emitted` of each request's tokens, [requests, width]; returns which requests are finished."""
        table = self._table
        self._text.append(rows, token_ids, emitted)
        num_tokens = table.num_tokens[rows] + emitted
        table.num_tokens[rows] = num_tokens
        finished = num_tokens >= table.max_tokens[rows]
        stopped = self._ends.at_last(rows, token_ids, emitted)
        if stopped is not None:
            finished |= stopped
        places = finished.nonzero()[0]
        for place in places.tolist():
            row = int(rows[place])
            self._scheduler.finish(row)
            is_stop = stopped is not None and bool(stopped[place])
            self._recorder.add_request(row, now_s, "stop" if is_stop else "length")
        if len(places):
            self._finished_requests += len(places)
            self._body.release(rows[places])
        if self._on_progress:
            self._emitted_tokens += int(emitted.sum())
            self._tell()
        return finished

    def give_up(self, rows: IntArray, job: Job, now_s: float) -> None:
        """End a request, the only one of `rows`, since its device has too little memory for this job of it alone."""
        (row,) = rows.tolist()
        ((start,), (stop,)) = job.spans.start.tolist(), job.spans.stop.tolist()
        LOG.warning(
            "request %r is given up: out of memory in a %s job of it alone, of %d tokens behind %d; lower "
            "kv.gpu_memory_utilization or kv.num_blocks, so that more is left for jobs, or trace.max_prompt_tokens",
            self._table.requests[row].id, kind_of(job), stop - start, start,
        )  # fmt: skip
        self._scheduler.finish(row)
        self._recorder.add_request(row, now_s, "out_of_memory")
        self._finished_requests += 1
        self._body.release(rows)
        self._tell()

    def _tell(self) -> None:
        if self._on_progress:
            self._on_progress(Progress(self._finished_requests, self._emitted_tokens))
