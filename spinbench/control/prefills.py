"""Prefills of newcomers, and of requests that were preempted: one job at a time."""

import numpy as np

from spinbench.control.committer import Committer
from spinbench.control.job import Body, JobDone, PrefillJob, PrefillResult, TokenSpans
from spinbench.control.request_table import IDLE, IN_PREFILL, RequestTable
from spinbench.control.scheduler import Scheduler


class Prefills:
    """Starts them as requests are admitted, and takes them in: each emits a token."""

    def __init__(
        self, table: RequestTable, scheduler: Scheduler, committer: Committer, body: Body, headroom_tokens: int
    ) -> None:
        """`headroom_tokens`: what the first round behind a prefill may need beside the request's tokens."""
        self._table = table
        self._scheduler = scheduler
        self._committer = committer
        self._body = body
        self._headroom_tokens = headroom_tokens
        self.under_way = False
        """Whether one is."""

    def start(self) -> None:
        """Prefill who can be admitted, if anyone waits; none is under way."""
        if not self._scheduler.waiting:
            return
        admitted = self._scheduler.admit(self._body.now(), self._headroom_tokens)
        if admitted:
            self.under_way = True
            rows = np.array(admitted, np.int64)
            self._table.in_round[rows] = IN_PREFILL
            self._body.submit(PrefillJob(TokenSpans(rows, np.zeros_like(rows), self._table.num_tokens[rows])))

    def end(self, done: JobDone, job: PrefillJob, result: PrefillResult) -> None:
        """Take in the one that was under way."""
        self.under_way = False
        table, rows = self._table, job.spans.rows
        table.in_round[rows] = IDLE
        table.num_prefill_emitted_tokens[rows] += 1
        table.first_token_s[rows] = np.where(np.isnan(table.first_token_s[rows]), done.end_s, table.first_token_s[rows])
        self._committer.commit(rows, result.token_ids[:, None], np.ones_like(rows), done.end_s)
