"""Prefills of newcomers, and of requests that were preempted: one job at a time."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.batch_limits import BatchLimits
from spinbench.control.committer import Committer
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import PrefillJob, TokenSpans
from spinbench.control.jobs.result import DidNotFit, PrefillResult
from spinbench.control.request_table import IDLE, IN_PREFILL, RequestTable
from spinbench.control.scheduler import Scheduler


class Prefills:
    """Starts them as requests are admitted, and takes them in: each emits a token."""

    def __init__(
        self,
        table: RequestTable,
        scheduler: Scheduler,
        committer: Committer,
        body: Body,
        limits: BatchLimits,
        headroom_tokens: int,
    ) -> None:
        """`headroom_tokens`: what the first round behind a prefill may need beside the request's tokens."""
        self._table = table
        self._scheduler = scheduler
        self._committer = committer
        self._body = body
        self._limits = limits
        self._headroom_tokens = headroom_tokens
        self.under_way = False
        """Whether one is."""
        self._admitted: IntArray = np.empty(0, np.int64)
        """Who is to be prefilled, the oldest first: one prefill after another, where they do not fit into one."""

    def start(self) -> None:
        """Prefill who was admitted, and then who can be, if anyone waits; none is under way."""
        if not len(self._admitted):
            if not self._scheduler.waiting:
                return
            admitted = self._scheduler.admit(self._body.now(), self._headroom_tokens)
            if not admitted:
                return
            self._admitted = np.array(admitted, np.int64)
            self._table.in_round[self._admitted] = IN_PREFILL
        self.under_way = True
        num_tokens = self._table.num_tokens[self._admitted]
        fitting = np.add.accumulate(num_tokens).searchsorted(self._limits.prefill_tokens, side="right")
        count = max(1, int(fitting))
        rows = self._admitted[:count]
        self._body.submit(PrefillJob(TokenSpans(rows, np.zeros_like(rows), num_tokens[:count])))

    def end(self, done: JobDone, job: PrefillJob, result: PrefillResult | DidNotFit, has_company: bool) -> None:
        """Take in the one that was under way; `has_company`: beside it rounds are."""
        self.under_way = False
        table, rows = self._table, job.spans.rows
        if isinstance(result, DidNotFit):
            if not self._limits.retry_prefill(job, has_company):
                self._admitted = self._admitted[1:]
                self._committer.give_up(rows, job, done.end_s)
            return
        self._admitted = self._admitted[len(rows) :]
        self._limits.fitted()
        table.in_round[rows] = IDLE
        table.num_prefill_emitted_tokens[rows] += 1
        table.first_token_s[rows] = np.where(np.isnan(table.first_token_s[rows]), done.end_s, table.first_token_s[rows])
        self._committer.commit(rows, result.token_ids[:, None], np.ones_like(rows), done.end_s)
