"""The serving loop: turns events into jobs. The same for both engines."""

from collections.abc import Callable

from spinbench.control.arrays import IntArray
from spinbench.control.batch_limits import BatchLimits
from spinbench.control.committer import Committer
from spinbench.control.drafter_poll import DrafterPoll
from spinbench.control.end_tokens import EndTokens
from spinbench.control.full_information import FullInformation, LearnsFromAll
from spinbench.control.jobs.body import Body, JobDone, JobTimes, KnownTimes
from spinbench.control.jobs.draft_series import DraftsAtOnce
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, VerifyJob
from spinbench.control.jobs.result import DidNotFit, DraftResult, PrefillResult, ScoreResult, VerifyResult
from spinbench.control.kv_budget import KvBudget
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.pipeline import next_to_start, num_parts, share_of_batch
from spinbench.control.prefills import Prefills
from spinbench.control.records.recorder import Recorder
from spinbench.control.records.run_record import RunRecord
from spinbench.control.request_table import IDLE, RequestTable
from spinbench.control.round_closer import RoundCloser
from spinbench.control.round_starter import RoundStarter
from spinbench.control.rounds.draft_ahead import DraftAhead
from spinbench.control.rounds.round import Round
from spinbench.control.scheduler import Scheduler
from spinbench.control.switching import CatchUpAhead
from spinbench.control.text import Text
from spinbench.workload.arrivals import Arrivals


class ServingLoop:
    """Serves a queue of arrivals on a body and records what happened.

    Several rounds may be in flight, each with requests of its own (`RequestTable.in_round`). Only this loop changes the
    table, the text and the scheduler, between two events of the body.
    """

    def __init__(
        self,
        setting: LoopSetting,
        body: Body,
        arrivals: Arrivals,
        table: RequestTable,
        text: Text,
        on_progress: Callable[[Progress], None] | None = None,
        at_once: DraftsAtOnce | None = None,
    ) -> None:
        """`at_once` is the body where it takes the drafts of a round as one: if they follow each other, that is."""
        self._setting = setting
        self._body = body
        self._at_once = at_once if setting.drafts_follow_each_other else None
        self._arrivals = arrivals
        self._table = table
        budget = KvBudget(table, setting.num_kv_blocks, setting.block_size, setting.branch_tokens)
        self._scheduler = Scheduler(table, budget, setting.max_num_seqs, setting.max_num_batched_tokens)
        self._recorder = Recorder(table, text, setting.drafter_names, body.now())
        ends = EndTokens(setting.eos_token_ids, table)
        committer = Committer(table, text, ends, self._scheduler, self._recorder, body, on_progress)
        self._limits = BatchLimits(setting.max_num_seqs, setting.max_num_batched_tokens)
        headroom_tokens = setting.max_num_draft_tokens + 1
        self._prefills = Prefills(table, self._scheduler, committer, body, self._limits, headroom_tokens)
        # A decision knows what happened up to the event that it follows, not what the clock reads by the time that the
        # host gets to it: so it depends on the durations of jobs alone, and a simulator can come to the same one.
        self._last_event: JobTimes = KnownTimes(0.0, 0.0)
        self._rounds: dict[int, Round] = {}
        """Those in flight, by index."""
        full: FullInformation | None = None
        if isinstance(setting.selector, LearnsFromAll):
            most = setting.draft_length.max_num_speculative_tokens
            full = FullInformation(table, text, setting.drafters, most)
        self._ahead: CatchUpAhead | None = None
        if setting.switching == "ahead" and setting.drafters:
            self._ahead = CatchUpAhead(table, setting.drafters, setting.selector)
        self._draft_ahead: DraftAhead | None = None
        if setting.drafts_ahead:
            self._draft_ahead = DraftAhead(table, setting.drafters, self._scheduler)
        of_rounds, beside, limits = setting.of_rounds, (full, self._draft_ahead), self._limits
        self._starter = RoundStarter(setting, of_rounds, body, table, text, self._scheduler, *beside)
        self._closer = RoundCloser(
            setting, of_rounds, table, text, ends, self._scheduler, self._recorder, committer, body, limits, *beside
        )
        self._poll = DrafterPoll(full, body, self._closer) if full else None

    def run(self) -> RunRecord:
        """Serve until every request is finished. Ctrl-C ends the run early with an incomplete record."""
        try:
            while (waits := self._must_wait) or self._scheduler.num_outstanding or self._arrivals:
                deadline_s = None if waits else self.advance()
                if deadline_s is not None and self._must_wait:
                    deadline_s = None
                self.take(self._body.next_event(deadline_s), deadline_s)
            end_s = self._body.now()
            while self.has_jobs_ahead:
                self.take(self._body.next_event(None), None)
        except KeyboardInterrupt:
            return self.abort(self._body.now())
        return self.finish(end_s)

    def advance(self) -> float | None:
        """Take in what has arrived and start what can start; gives the time of the next arrival, if one is known."""
        self._take_arrivals()
        if not self._poll or not self._poll.num_open:
            self._start_work()
        return self._arrivals.next_due_s(self._scheduler.num_outstanding)

    def take(self, done: JobDone | None, deadline_s: float | None) -> None:
        """Take in a job that ended, or, with `None`, that the clock reads `deadline_s`."""
        if done is not None:
            self._handle(done)
            self._last_event = done.times
        elif deadline_s is not None:
            self._last_event = KnownTimes(deadline_s, deadline_s)

    @property
    def scheduler(self) -> Scheduler:
        """Who runs and who waits; to be read only."""
        return self._scheduler

    @property
    def table(self) -> RequestTable:
        """The requests; to be read only."""
        return self._table

    @property
    def has_jobs_ahead(self) -> bool:
        """Whether jobs are under way that prepare later rounds.

        Once all requests are finished nobody needs them any more, but the record shall have every job.
        """
        return any(ahead.num_in_flight for ahead in (self._ahead, self._draft_ahead) if ahead)

    def finish(self, end_s: float) -> RunRecord:
        """The record of a run in which every request is finished. To be called once."""
        return self._recorder.finish(end_s, complete=True)

    @property
    def _must_wait(self) -> bool:
        """Whether nothing can begin before what is in flight ends, whoever arrives: then nobody asks for the time."""
        return self._setting.pipeline.depth == 1 and (self._prefills.under_way or bool(self._rounds))

    def abort(self, now_s: float) -> RunRecord:
        """The record of a run that ends early: its unfinished requests are `aborted`. To be called once."""
        for row in (*self._scheduler.running, *self._scheduler.waiting):
            self._recorder.add_request(row, None, "aborted")
        return self._recorder.finish(now_s, complete=False)

    def _take_arrivals(self) -> None:
        for request, arrival_s in self._arrivals.take_due(self._last_event.end_s, self._scheduler.num_outstanding):
            row = self._table.row_of[request.id]
            self._table.arrival_s[row] = arrival_s
            self._scheduler.add(row)

    def _start_work(self) -> None:
        """Prefill newcomers if there are any; start rounds with idle requests while there are places in the pipeline.

        A pipeline of depth 1 does either the one or the other. All drafters are asked first, if the selector learns so.
        """
        limits = self._limits
        depth = 1 if limits.one_at_a_time else self._setting.pipeline.depth
        overlaps = depth > 1
        if not self._prefills.under_way and (overlaps or not self._rounds):
            self._prefills.start()
        if self._draft_ahead and self._draft_ahead.is_undecided:
            return
        places = depth - len(self._rounds)
        if places > 0 and (overlaps or not self._prefills.under_way) and self._scheduler.running:
            running = self._scheduler.running_rows
            idle = running[self._table.in_round[running] == IDLE] if overlaps else running
            share = min(share_of_batch(len(running), depth), limits.round_requests)
            rows = next_to_start(idle, self._table.last_round, places * share)
            if len(rows) and not (self._poll and self._poll.ask(rows)):
                most = max(num_parts(len(rows), len(running), depth), -(-len(rows) // share))
                self._start_rounds(rows, min(places, most))
                if not self._rounds and not self._prefills.under_way:
                    self._start_work()  # all of these were preempted, others were not

    def _start_rounds(self, rows: IntArray, most: int) -> None:
        """Choose for these requests, and start them in at most `most` rounds."""
        started = self._starter.start(rows, most, len(self._rounds))
        for round_, _ in started:
            self._rounds[round_.index] = round_
            self._draft(round_)
        if self._ahead:
            for round_, context in started:
                for job in self._ahead.jobs(round_, context):
                    self._body.submit(job)

    def _draft(self, round_: Round) -> None:
        """Hand out the first jobs of a round."""
        series = round_.series(self._table) if self._at_once else None
        if self._at_once and series is not None:
            done = self._at_once.draft_at_once(series)
            self._recorder.add_series(done, round_.index)
            self._body.submit(round_.drafts_done(done))
        else:
            for job in round_.first_jobs(self._table):
                self._submit(job, round_)

    def _submit(self, job: Job, round_: Round) -> None:
        """A job of a round, and behind its verification what is drafted ahead."""
        self._body.submit(job)
        if self._draft_ahead and isinstance(job, VerifyJob):
            for further in self._draft_ahead.jobs(round_):
                self._body.submit(further)

    def _handle(self, done: JobDone) -> None:
        job, result = done.job, done.result
        prepared_in = self._ahead.done(job, result) if self._ahead and isinstance(job, CatchUpJob) else None
        if prepared_in is not None:
            self._recorder.add_span(done, prepared_in)
            return
        if self._draft_ahead and isinstance(job, DraftJob) and job.is_ahead:
            number, drafted_in = self._draft_ahead.done(done, job, result)
            self._recorder.add_span(done, drafted_in, number)
            return
        # all requests of a job are in the same round, or in none while all drafters are asked for the one that follows
        round_ = self._rounds.get(int(self._table.in_round[job.spans.rows[0]]))
        following = self._starter.num_rounds if self._poll and self._poll.num_open else -1
        self._recorder.add_span(done, round_.index if round_ else following)
        if round_:
            self._handle_round(round_, done)
        elif isinstance(job, PrefillJob) and isinstance(result, PrefillResult | DidNotFit):
            self._prefills.end(done, job, result, has_company=bool(self._rounds))
        elif isinstance(job, CatchUpJob) and isinstance(result, ScoreResult | DidNotFit) and self._poll:
            self._poll.answered(done, job, result)
        else:
            raise _unexpected(done)

    def _handle_round(self, round_: Round, done: JobDone) -> None:
        """A job of a round ended."""
        job, result = done.job, done.result
        if isinstance(result, DidNotFit) or (self._ahead and self._ahead.lacks_kv(job)):
            round_.give_up(job, isinstance(result, DidNotFit))
        elif isinstance(job, DraftJob) and isinstance(result, DraftResult):
            verify = round_.draft_done(done, job, result)
            if verify is not None:
                self._submit(verify, round_)
        elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult):
            del self._rounds[round_.index]
            self._closer.close(round_, done, result)
        elif isinstance(job, CatchUpJob):
            self._table.hold_kv(job.spans.rows, job.drafter, job.spans.stop)
        else:
            raise _unexpected(done)
        if round_.is_over:
            del self._rounds[round_.index]
            self._closer.give_up(round_, done.end_s, has_company=bool(self._rounds) or self._prefills.under_way)


def _unexpected(done: JobDone) -> TypeError:
    return TypeError(f"event of {type(done.job).__name__} with a result of {type(done.result).__name__}")
