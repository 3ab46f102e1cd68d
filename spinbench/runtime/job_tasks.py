"""What the runtime's body has done for a job: its part of the work as a function, and what becomes of the outcome."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, VerifyJob
from spinbench.control.jobs.result import DidNotFit, DraftResult, Result, VerifyResult
from spinbench.control.text import LiveText
from spinbench.runtime.job_work import JobWork, Outcome
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.out_of_memory import at_any_rate, if_it_fits
from spinbench.runtime.proposals import Proposals
from spinbench.runtime.token_tree import KvMoves

Task = Callable[[], Outcome]


class JobTasks:
    """Makes tasks of the jobs of a run; keeps the slots of its requests and what was drafted for them.

    For the loop's thread alone. A task is run on any thread, after those of its lane that were made before it.
    """

    def __init__(self, work: JobWork, slots: SlotTable, shares_target: bool, has_drafters: bool) -> None:
        """Where others share the target, want of memory for a job of it ends the run; else it is a result.

        Without drafters their jobs are nobody's: another process tells what came of them.
        """
        self._work = work
        self._slots = slots
        self._attempt = at_any_rate if shares_target else if_it_fits
        self._has_drafters = has_drafters
        self._proposals = Proposals(work.num_drafters)
        self._branch_tokens = 0
        self._text = LiveText([], {})

    def begin(self, text: LiveText, branch_tokens: int) -> None:
        """Start a run on the requests of `text`, with an empty KV pool."""
        self._text = text
        self._branch_tokens = branch_tokens
        self._slots.clear()
        self._proposals.clear()

    def release(self, rows: IntArray) -> None:
        """Free the requests' KV slots."""
        self._proposals.release(rows.tolist())
        for row in rows.tolist():
            self._slots.release(row)

    def forget(self, rows: IntArray) -> None:
        """Forget what was drafted for the requests."""
        self._proposals.forget(rows.tolist())

    def of(self, job: Job) -> Task:
        """The job as a function that needs nothing of this object's changing state; its requests get their slots."""
        self._hold_slots(job)
        work, text, moves = self._work, self._text, None
        match job:
            case PrefillJob(spans):
                task = partial(work.prefill, spans, text)
            case CatchUpJob():
                moves = self._proposals.take_moves(job.drafter, job.spans.rows.tolist())
                task = partial(work.catch_up, job, self._slots.held(job.spans.rows.tolist()), text)
            case DraftJob(is_ahead=True):
                drafts = self._proposals.await_ahead(job)
                task = partial(work.go_on, job, drafts, self._slots.held(job.spans.rows.tolist()), text)
            case DraftJob():
                moves = self._proposals.take_moves(job.drafter, job.spans.rows.tolist())
                task = partial(work.draft, job, text)
            case VerifyJob():
                self._proposals.use_ahead(job)
                task = partial(work.verify, job, self._proposals.drafts_of(job.spans.rows.tolist()), text)
        if isinstance(job, CatchUpJob | DraftJob) and not self._has_drafters:
            return _told_by_first
        if isinstance(job, PrefillJob | VerifyJob):
            return partial(self._do, task)
        move = None if moves is None else partial(work.move_kv, job, moves.within(self._slots))
        return partial(_draft, task, move, moves)

    def end(self, job: Job, outcome: Outcome) -> Result:
        """What the loop is told of the outcome of a job's task."""
        result = outcome.result
        if isinstance(job, DraftJob) and isinstance(result, DraftResult):
            rows = job.spans.rows.tolist()
            if job.is_ahead:
                self._proposals.put_ahead(job, outcome.drafts)
            elif job.joins:
                result = self._joined(job, result, outcome)
            else:
                self._proposals.put(job.drafter, rows, outcome.drafts)
        elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult):
            result = self._proposals.settle(job.spans, result, outcome.path)
        elif isinstance(job, DraftJob | CatchUpJob) and outcome.unmoved is not None:
            self._proposals.put_back(job.drafter, outcome.unmoved)
        return result

    def _joined(self, job: DraftJob, result: DraftResult, outcome: Outcome) -> DraftResult | DidNotFit:
        added = self._attempt(partial(self._proposals.join, job.drafter, job.spans.rows.tolist(), outcome.drafts))
        return DidNotFit() if added is None else replace(result, num_drafted=added[0])

    def _do(self, task: Task) -> Outcome:
        outcome = self._attempt(task)
        return Outcome(DidNotFit()) if outcome is None else outcome[0]

    def _hold_slots(self, job: Job) -> None:
        stop = job.spans.stop
        if isinstance(job, DraftJob):
            # the last token of a chain is not fed back; of a tree it may have a lower number than one that is
            further = job.num_speculative_tokens - 1 if job.tree is None else job.num_nodes
            stop = np.where(job.by_lookup, 0, stop + further)
        for row, num_tokens in zip(job.spans.rows.tolist(), stop.tolist(), strict=True):
            self._slots.hold(row, num_tokens, self._text.max_tokens(row) + self._branch_tokens)


def _draft(task: Task, move: Callable[[], None] | None, moves: KvMoves | None) -> Outcome:
    """A drafter's task, behind `move`, which makes `moves`. Of ranks the first does it alone and tells the others."""
    if move is not None and if_it_fits(move) is None:
        return Outcome(DidNotFit(), unmoved=moves)
    outcome = if_it_fits(task)
    return Outcome(DidNotFit()) if outcome is None else outcome[0]


def _told_by_first() -> Outcome:
    """In place of a drafter's job in the processes that have no drafters."""
    return Outcome(None)
