"""Drafting while the target verifies, on the guess that the whole draft will be kept: who does, and what comes of it.

PEARL's post-verification (arXiv 2408.11850); others call it speculative speculative decoding.
"""

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.ready_drafts import NO_JOB, ReadyDrafts
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.jobs.result import DidNotFit, DraftResult, Result
from spinbench.control.request_table import RequestTable
from spinbench.control.rounds.round import Round
from spinbench.control.scheduler import Scheduler


class DraftAhead:
    """While the target verifies a draft of K tokens, its drafter goes on behind it: a guess at the bonus token, and the
    next K tokens.

    Where the target keeps the whole draft and its bonus token is the guess, those K tokens are the request's next
    draft: it keeps its drafter, and its next round has nothing to draft. Else they are thrown away, and of the
    drafter's KV what belongs to the text counts. Whether a guess came true is known when both jobs are done, and no
    round begins before: the drafter is busy up to then. A job that cannot be of use any more is not waited for.

    Only models draft ahead; copies and looks into a table are made in no time. A request goes on with the K that its
    round had, cut to what it may still emit behind it. KV blocks for what is drafted ahead are taken as far as they are
    free: nobody is preempted for them.
    """

    def __init__(self, table: RequestTable, drafters: tuple[DrafterInfo, ...], scheduler: Scheduler) -> None:
        self._table = table
        self._scheduler = scheduler
        self._has_kv_cache = np.array([*(drafter.has_kv_cache for drafter in drafters), False], np.bool_)
        """[drafters + 1]: the last one stands for none."""
        self._num_jobs = 0
        self._in_flight: dict[int, tuple[int, int, DraftJob]] = {}
        """By the job's identity: its number, the index of the round whose drafts it goes on from, and the job."""
        count = len(table)
        self._drafts = ReadyDrafts.none(count)
        """By row: the newest job for each request and what it is to bring; no job = it is of no use any more."""
        self._num_kv_drops = np.zeros(count, np.int64)
        """By row, as the following: the table's, when the job was submitted."""
        self._num_before = np.zeros(count, np.int64)
        """Tokens in front of the guess: the text's, and the draft under verification."""
        self._is_drafted = np.zeros(count, np.bool_)
        self._is_verified = np.zeros(count, np.bool_)
        """And was kept whole."""
        self._guess = np.zeros(count, np.int64)
        self._bonus = np.zeros(count, np.int64)
        self._last_verified = -1
        """Index of the newest round that was verified."""
        self._verified_s = 0.0
        """When that was."""
        self._left_s = 0.0
        """Seconds that jobs behind it went on for."""

    @property
    def num_in_flight(self) -> int:
        """Jobs that were submitted and are not done."""
        return len(self._in_flight)

    @property
    def is_undecided(self) -> bool:
        """Whether a draft was kept whole, and what was drafted behind it is not there yet."""
        return any(
            bool((self._is_current(job.spans.rows, number) & self._is_verified[job.spans.rows]).any())
            for number, _, job in self._in_flight.values()
        )

    def jobs(self, round_: Round) -> list[DraftJob]:
        """What to submit behind the verification of a round: a job for each model that drafted for it."""
        rows, depth = round_.rows, round_.draft_depth
        # the last token of an answer is the target's own, and never drafted
        num_tokens = np.minimum(depth, self._table.remaining_tokens(rows) - depth - 2)
        wanted = (round_.draft_steps > 0) & self._has_kv_cache[round_.drafter] & (num_tokens > 0)
        places = np.flatnonzero(wanted)
        if not len(places):
            return []
        before = round_.context_tokens + depth
        places = places[self._scheduler.reserve_if_free(rows[places], (before + num_tokens)[places])]
        return [
            self._job(drafter, rows[own], before[own], depth[own], num_tokens[own], round_.index)
            for drafter in np.unique(round_.drafter[places]).tolist()
            for own in [places[round_.drafter[places] == drafter]]
        ]

    def _job(
        self,
        drafter: int,
        rows: IntArray,
        num_before: IntArray,
        behind: IntArray,
        num_tokens: IntArray,
        round_index: int,
    ) -> DraftJob:
        by_lookup, newest = np.zeros(len(rows), np.bool_), TokenSpans(rows, num_before - 1, num_before)
        job = DraftJob(drafter, newest, num_tokens + 1, by_lookup, measure_confidence=False, behind=behind)
        drafts = self._drafts
        drafts.job[rows] = self._num_jobs
        drafts.drafter[rows] = drafter
        drafts.num_tokens[rows] = num_tokens
        drafts.group_size[rows] = len(rows)
        self._num_kv_drops[rows] = self._table.num_kv_drops[rows]
        self._num_before[rows] = num_before
        self._is_drafted[rows] = self._is_verified[rows] = False
        self._in_flight[id(job)] = self._num_jobs, round_index, job
        self._num_jobs += 1
        return job

    def done(self, done: JobDone, job: DraftJob, result: Result) -> tuple[int, int]:
        """Take in what was drafted ahead; returns the job's number, and the round whose drafts it goes on from."""
        number, round_index, _ = self._in_flight.pop(id(job))
        if round_index == self._last_verified:
            self._left_s = max(self._left_s, done.end_s - self._verified_s)
        current = self._is_current(job.spans.rows, number)
        rows = job.spans.rows[current]
        if isinstance(result, DidNotFit):
            self.forget(rows)
        elif len(rows):
            if not isinstance(result, DraftResult) or result.guesses is None:
                raise ValueError("a draft made ahead comes with a guess at the token in front of it")
            self._guess[rows] = result.guesses[current]
            self._drafts.start_s[rows] = done.start_s
            self._drafts.end_s[rows] = done.end_s
            self._is_drafted[rows] = True
            self._decide(rows)
        return number, round_index

    def verified(self, round_: Round, end_s: float, accepted: IntArray, bonus: IntArray, finished: BoolArray) -> float:
        """A round was verified by `end_s`: of each request the accepted tokens, the one behind them, and whether it is
        over. Returns the seconds that what was drafted ahead of it went on for behind the verification before.
        """
        left_s, self._left_s = self._left_s, 0.0
        self._last_verified, self._verified_s = round_.index, end_s
        drafted = self._drafts.job[round_.rows] != NO_JOB
        whole = drafted & (accepted == round_.draft_depth) & ~finished
        self._drafts.job[round_.rows[drafted & ~whole]] = NO_JOB
        rows = round_.rows[whole]
        self._bonus[rows] = bonus[whole]
        self._is_verified[rows] = True
        self._decide(rows)
        return left_s

    def _decide(self, rows: IntArray) -> None:
        """Hold guesses against bonus tokens, where both are known."""
        rows = rows[self._is_drafted[rows] & self._is_verified[rows]]
        right = self._guess[rows] == self._bonus[rows]
        # the whole draft was fed back, and the guess behind it
        self._table.drafter_kv_tokens[rows, self._drafts.drafter[rows]] = self._num_before[rows] + right
        self._drafts.job[rows[~right]] = NO_JOB

    def forget(self, rows: IntArray) -> None:
        """What is drafted ahead for these requests is of no use any more."""
        self._drafts.job[rows] = NO_JOB

    def take(self, rows: IntArray) -> ReadyDrafts:
        """The drafts that these requests have already as their round begins."""
        drafts = self._drafts.only(rows)
        kept = self._num_kv_drops[rows] == self._table.num_kv_drops[rows]
        drafts.job[~kept] = NO_JOB
        self.forget(rows)
        return drafts

    def _is_current(self, rows: IntArray, number: int) -> BoolArray:
        """Requests that a job may still be of use for: it is their newest one, and they have the KV that they had."""
        return (self._drafts.job[rows] == number) & (self._num_kv_drops[rows] == self._table.num_kv_drops[rows])
