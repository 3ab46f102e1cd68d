"""Begins rounds: who drafts how much for requests, and in which round each of them is."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.context_reader import ContextReader
from spinbench.control.full_information import FullInformation, LearnsFromAll
from spinbench.control.jobs.body import Body
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.request_table import RequestTable
from spinbench.control.rounds.choice import RoundChoice, RoundChooser
from spinbench.control.rounds.draft_ahead import DraftAhead
from spinbench.control.rounds.round import Round
from spinbench.control.rounds.setting import RoundSetting
from spinbench.control.scheduler import Scheduler
from spinbench.control.selector.protocol import LearnsByContext
from spinbench.control.text import Text


class RoundStarter:
    """Reads off what is known of requests, asks for a choice, and reserves KV blocks for what it comes to."""

    def __init__(
        self,
        setting: LoopSetting,
        of_rounds: RoundSetting,
        body: Body,
        table: RequestTable,
        text: Text,
        scheduler: Scheduler,
        full: FullInformation | None,
        draft_ahead: DraftAhead | None,
    ) -> None:
        self._setting = setting
        self._of_rounds = of_rounds
        self._body = body
        self._table = table
        self._scheduler = scheduler
        self._full = full
        self._draft_ahead = draft_ahead
        compares = isinstance(setting.selector, LearnsByContext)
        self._reader = ContextReader(table, text, setting.drafters, compares_drafts=compares)
        self._chooser = RoundChooser(setting.selector, setting.draft_length, setting.branching)
        self.num_rounds = 0
        """Rounds that began so far."""

    def start(self, rows: IntArray, most: int, num_in_flight: int) -> list[tuple[Round, RoundContext]]:
        """Choose for these requests, and begin at most `most` rounds with them while `num_in_flight` others go on.

        Returns the rounds, each with what was known of its requests; none if all were preempted.
        """
        setting = self._setting
        context = self._reader.read(rows, len(self._scheduler.waiting), num_in_flight + min(most, len(rows)) - 1)
        if self._full and isinstance(setting.selector, LearnsFromAll):
            feedback = self._full.take(context.rows)
            if feedback is not None:
                setting.selector.observe_all(feedback)
        ready = self._draft_ahead.take(context.rows) if self._draft_ahead else None
        choice = self._with_kv_blocks(self._chooser.choose(context, ready))
        if not len(choice):
            return []  # all were preempted for requests that are in flight
        parts = [choice]
        if most > 1:
            parts = [choice.only(part) for part in setting.pipeline.split(choice.context, choice.drafter, most)]
        return [(self._round(part), part.context) for part in parts]

    def _with_kv_blocks(self, choice: RoundChoice) -> RoundChoice:
        """The choice for those requests that have blocks for what is drafted for them; others are preempted."""
        context, depth = choice.context, choice.depth
        draft_tokens = self._setting.num_draft_tokens(depth) if self._of_rounds.has_trees else depth
        running, preempted = self._scheduler.reserve(context.rows, context.context_tokens + draft_tokens)
        if not preempted:
            return choice
        self._body.release(np.array(preempted, np.int64))
        return choice.only(running)

    def _round(self, choice: RoundChoice) -> Round:
        table, rows = self._table, choice.context.rows
        round_ = Round(self.num_rounds, choice, self._of_rounds)
        self.num_rounds += 1
        table.in_round[rows] = table.last_round[rows] = round_.index
        return round_
