"""Ends rounds: what was verified goes into the table, the text and the record, and to those who learn."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.batch_limits import BatchLimits
from spinbench.control.committer import Committer
from spinbench.control.drafting.drafter_groups import DrafterGroups
from spinbench.control.end_tokens import EndTokens
from spinbench.control.full_information import FullInformation
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job
from spinbench.control.jobs.result import VerifyResult
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.records.recorder import Recorder
from spinbench.control.request_table import IDLE, RequestTable
from spinbench.control.rounds.draft_ahead import DraftAhead
from spinbench.control.rounds.outcome import round_outcome
from spinbench.control.rounds.round import Round
from spinbench.control.rounds.setting import RoundSetting
from spinbench.control.scheduler import Scheduler
from spinbench.control.text import Text


class RoundCloser:
    """The order matters: learners are told of a text that has the round's tokens, and of who is over."""

    def __init__(
        self,
        setting: LoopSetting,
        of_rounds: RoundSetting,
        table: RequestTable,
        text: Text,
        ends: EndTokens,
        scheduler: Scheduler,
        recorder: Recorder,
        committer: Committer,
        body: Body,
        limits: BatchLimits,
        full: FullInformation | None,
        draft_ahead: DraftAhead | None,
    ) -> None:
        self._setting = setting
        self._of_rounds = of_rounds
        # with members the groups of rounds are those who draft, and a request may be in several
        self._by_drafter = DrafterGroups(len(setting.drafters)) if setting.merged else of_rounds.groups
        self._weighs_rounds = setting.weighs_rounds
        self._table = table
        self._text = text
        self._ends = ends
        self._scheduler = scheduler
        self._recorder = recorder
        self._committer = committer
        self._body = body
        self._limits = limits
        self._full = full
        self._draft_ahead = draft_ahead

    def close(self, round_: Round, done: JobDone, result: VerifyResult) -> None:
        """Take in the verification of a round, which is `done`."""
        table, rows, setting = self._table, round_.rows, self._setting
        self._limits.fitted()
        emitted = self._ends.cut(rows, result)
        accepted = emitted - 1
        drafter, drafted = round_.drafter, round_.draft_depth
        ran = self._of_rounds.keeps_kv(drafter, round_.draft_steps)
        round_.note_kv(table, ran, emitted, result)
        if self._full:
            by_model = drafted > 0 if ran is None else ran & (drafted > 0)
            columns = rows, drafter, round_.output_tokens, drafted, accepted
            self._full.note_drafts(*(column[by_model] for column in columns))
        table.last_drafter[rows] = drafter
        table.last_drafted[rows] = drafted
        table.last_accepted[rows] = accepted
        table.last_confidence[rows] = round_.confidence
        table.num_rounds[rows] += 1
        table.in_round[rows] = IDLE
        self._recorder.add_round(round_, accepted, done)
        gain = int(emitted.sum()) if self._weighs_rounds else len(rows)
        setting.pipeline.observe(done.end_s, len(rows), len(self._scheduler.running), gain)
        finished = self._committer.commit(rows, result.token_ids, emitted, done.end_s)
        ahead_left_s = 0.0
        if self._draft_ahead:
            bonus = result.token_ids[np.arange(len(rows)), accepted]
            ahead_left_s = self._draft_ahead.verified(round_, done.end_s, accepted, bonus, finished)
        copies = self._of_rounds.copies
        outcome = round_outcome(
            round_, self._text, accepted, done, finished, self._by_drafter, ahead_left_s, copies=copies
        )
        setting.selector.observe(outcome)
        if setting.draft_length is not setting.selector:  # a selector that chooses K is both
            setting.draft_length.observe(outcome)

    def give_up(self, round_: Round, end_s: float, has_company: bool) -> None:
        """End a round, at `end_s`, of which not all fitted; its requests are as they were, and may begin another.

        `has_company`: other rounds or a prefill are under way.
        """
        rows = round_.rows
        self._of_rounds.has_redone = True
        self._table.in_round[rows] = IDLE
        self._body.forget(rows)
        if self._draft_ahead:
            self._draft_ahead.forget(rows)
        if round_.unfit is not None:
            self.back_off(round_.unfit, rows, end_s, has_company)

    def back_off(self, job: Job, rows: IntArray, end_s: float, has_company: bool) -> None:
        """Have `rows`, of which `job` did not fit, tried again in smaller rounds; the only one is given up."""
        if not self._limits.retry_round(job, len(rows), has_company):
            self._committer.give_up(rows, job, end_s)
