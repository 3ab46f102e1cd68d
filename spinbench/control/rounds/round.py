"""One draft + verify cycle of one micro-batch, from the choice of drafters to the committed tokens."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.drafter_groups import Groups
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS, DraftSeries, SeriesDone
from spinbench.control.jobs.draft_times import DraftTimes, TimesAtOnce, TimesOfJobs
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, TokenSpans, VerifyJob
from spinbench.control.jobs.result import DraftResult, VerifyResult
from spinbench.control.request_table import NO_DRAFTER, RequestTable
from spinbench.control.rounds.choice import RoundChoice
from spinbench.control.rounds.setting import RoundSetting


class Round:
    """The state machine of a round: draft jobs first, the verify job once all drafts are there.

    Its arrays have one entry per request and are filled in as the round goes on; the recorder keeps them.
    """

    draft_times: DraftTimes
    """From the first jobs on."""
    _job_times: TimesOfJobs
    """The same where drafts come in one by one."""

    def __init__(self, index: int, choice: RoundChoice, setting: RoundSetting) -> None:
        """The drafter behind the last one stands for all members.

        Whoever has a second drafter has a first one, too, and both are without a KV cache.
        """
        context, num_speculative_tokens = choice.context, choice.num_speculative_tokens
        nobodys = setting.nobodys(len(context))
        self.index = index
        self.rows = context.rows
        self.num_speculative_tokens: IntArray = nobodys.zeros
        """Tokens that drafters are asked for, on all paths."""
        self.asked_depth = choice.depth
        """Those on the longest path."""
        if np.count_nonzero(num_speculative_tokens) == len(context):  # as in most rounds
            self.drafter = choice.drafter.copy()
        else:
            self.drafter = np.where(num_speculative_tokens > 0, choice.drafter, NO_DRAFTER)
        self.num_in_flight = context.num_in_flight
        self.context_tokens = context.context_tokens
        self._newest = context.context_tokens - 1
        """Position of each newest token."""
        self.output_tokens = context.output_tokens
        self.lookup_match_order = context.lookup_match_order
        self.by_lookup: BoolArray = nobodys.no
        self.catch_up_tokens: IntArray = nobodys.zeros
        self.drafted: IntArray = nobodys.zeros
        self.draft_steps: IntArray = nobodys.zeros
        """Tokens that a model was run for, of which it may not have been sure enough to draft the last."""
        self.confidence: FloatArray = nobodys.unknown
        self.ready = choice.ready
        self.drafted_ahead = nobodys.no if choice.ready is None else choice.ready.is_there
        """Whose draft was there when the round began."""
        self._setting = setting
        self._asked_tokens = num_speculative_tokens
        self._beside = choice.beside
        self.is_given_up = False
        """Whether it will not be verified: not all of it fitted on the devices."""
        self.unfit: Job | None = None
        """The first of its jobs that did not fit."""
        self._pending: dict[int, IntArray] = {}
        """Per drafter that still drafts, the places of its requests in the arrays."""
        self._merging: list[tuple[int, IntArray]] = []
        """Members and the places of the requests that they ran a model for together with others."""

    def first_jobs(self, table: RequestTable) -> list[Job]:
        """Catch-up and draft jobs of each drafter's group, or the verify job if nobody drafts."""
        series = self.series(table)
        several = bool(self._setting.members) or self._beside is not None
        self.draft_times = self._job_times = TimesOfJobs(len(self.rows), several=several)
        if series is not None or self.ready is not None:
            self._make_room()
        if series is None:
            return [self.verify_job()]
        self._pending.update(series.groups.parts)
        if self._setting.has_trees:
            for (_, own), job in zip(series.groups.parts, series.drafts(), strict=True):
                self.num_speculative_tokens[own] += job.num_nodes
        else:
            self.num_speculative_tokens[series.groups.places] = series.num_speculative_tokens
        return list(series.jobs())

    def _make_room(self) -> None:
        """For what drafts come to, one by one."""
        count = len(self.rows)
        self.num_speculative_tokens, self.drafted, self.draft_steps = np.zeros((3, count), np.int64)
        self.confidence = np.full(count, np.nan)
        if self.ready is not None:
            own = self.drafted_ahead
            self.drafted[own] = self.draft_steps[own] = self.num_speculative_tokens[own] = self.ready.num_tokens[own]
            self._job_times.take_in(self.ready)

    def series(self, table: RequestTable) -> DraftSeries | None:
        """All catch-ups and drafts of the round; None if nobody drafts."""
        drafter = self.drafter if self.ready is None else np.where(self.drafted_ahead, NO_DRAFTER, self.drafter)
        groups = self._setting.groups.of(drafter)
        if self._beside is not None:
            groups = self._setting.groups.of_both(drafter, self._beside[0])
        return self._series(groups, table) if groups.parts else None

    def drafts_done(self, done: SeriesDone) -> VerifyJob:
        """Take in all drafts of a round of chains, made to their full length; returns the verify job."""
        self.draft_times = TimesAtOnce(done, self.drafter, len(self._setting.drafters))
        lengths = self._asked_tokens
        if len(done.series.spans) < len(self.rows):
            lengths = np.where(self.drafter == NO_DRAFTER, 0, lengths)
        self.drafted = self.draft_steps = self.num_speculative_tokens = lengths
        return self.verify_job()

    def draft_done(self, done: JobDone, job: DraftJob, result: DraftResult) -> Job | None:
        """Take a draft in; returns the verify job when it was the last one missing, unless the round is given up."""
        places = own = self._pending.pop(job.drafter)
        steps = job.num_steps(result)
        if self._setting.has_trees:  # several drafters may draft for a request
            self.drafted[places] += result.num_drafted
        else:
            self.drafted[places] = result.num_drafted
        if result.confidence is not None:
            self.confidence[places] = result.confidence
        if self._beside is not None:  # whoever drafts beside another is not recorded for itself
            first = self.drafter[places] == job.drafter
            own, steps = places[first], steps[first]
        self.draft_steps[own] = steps
        self._job_times.add(places, done, own)
        return None if self._pending or self.is_given_up else self.verify_job()

    def give_up(self, job: Job, did_not_fit: bool) -> None:
        """Nothing came of one of its jobs: it did not fit, or its drafter lacked KV that another was to compute."""
        self.is_given_up = True
        if did_not_fit and self.unfit is None:
            self.unfit = job
        if isinstance(job, DraftJob):
            self._pending.pop(job.drafter)

    @property
    def is_over(self) -> bool:
        """Whether it is given up and nothing of it is under way any more."""
        return self.is_given_up and not self._pending

    @property
    def draft_depth(self) -> IntArray:
        """Tokens on the longest drafted path of each request: as many can be accepted."""
        if self.ready is None and not self._setting.has_trees:
            return self.drafted
        return np.minimum(self.drafted, self.asked_depth)

    def note_kv(self, table: RequestTable, ran: BoolArray | None, emitted: IntArray, result: VerifyResult) -> None:
        """Note what KV the drafters hold now: accepted tokens that they drafted, but never the last that they named.

        That may be one that they were not sure of, and did not draft. A round emits its accepted tokens and one more.

        `ran` are the requests for which one drafter's model was run, None = all.
        """
        rows, drafter, held = self.rows, self.drafter, self._newest + np.minimum(emitted, self.draft_steps)
        if ran is not None:
            rows, drafter, held = rows[ran], drafter[ran], held[ran]
        table.hold_kv(rows, drafter, held)
        table.last_model_drafter[rows] = drafter
        for drafter, places in self._merging:
            accepted = emitted[places] - 1
            own = accepted if result.accepted_of is None else result.accepted_of[places, drafter]
            held = np.minimum(np.minimum(own, accepted), self.asked_depth[places] - 1)
            table.hold_kv(self.rows[places], drafter, self.context_tokens[places] + held)

    def _series(self, groups: Groups, table: RequestTable) -> DraftSeries:
        setting, places, drafter = self._setting, groups.places, groups.drafter
        rows, newest, lengths = self.rows[places], self.context_tokens[places], self._asked_tokens[places]
        alone = self.drafter[places] == drafter if setting.members else None
        own_first = None
        if self._beside is not None:
            own_first = self.drafter[places] == drafter
            lengths = np.where(own_first, lengths, self._beside[1][places])
        by_lookup = setting.nobodys(len(places)).no
        if setting.copies:
            by_lookup = setting.drafts_by_lookup(drafter, self.lookup_match_order[places])
            self.by_lookup = np.zeros(len(self.rows), np.bool_)
            if own_first is None:
                self.by_lookup[places] = by_lookup if alone is None else by_lookup & alone
            else:
                self.by_lookup[places[own_first]] = by_lookup[own_first]
        start = setting.start_of_drafts(drafter, by_lookup, newest, table.planned_kv_tokens(rows, drafter))
        behind = newest - start > MAX_UNSEEN_TOKENS
        first, catch_ups = start, list[CatchUpJob | None]()
        if np.count_nonzero(behind):
            first = np.where(behind, newest - 1, start)
            self.catch_up_tokens = np.zeros(len(self.rows), np.int64)
            if setting.has_trees:  # several drafters may draft for a request
                np.add.at(self.catch_up_tokens, places, first - start)
            else:
                self.catch_up_tokens[places] = first - start
            catch_ups = _catch_ups(groups, TokenSpans(rows, start, first), behind)
        series = DraftSeries(
            groups, TokenSpans(rows, first, newest), lengths, by_lookup, catch_ups, setting.measure_confidence,
            setting.stop,
        )  # fmt: skip
        return self._branching(series, alone) if setting.has_trees else series

    def _branching(self, series: DraftSeries, alone: BoolArray | None) -> DraftSeries:
        """With the shapes of trees, and with whose drafts are put together with others'."""
        setting, parts, slices = self._setting, series.groups.parts, series.groups.slices
        # what has no KV cache names one token at a time: a chain
        trees = [setting.tree if setting.tree and setting.has_kv_cache[number] else None for number, _ in parts]
        joins: list[bool] = []
        for (number, own), part in zip(parts, slices, strict=True):
            if self._beside is not None:
                joins.append(bool(np.count_nonzero(self._beside[0][own] != NO_DRAFTER)))
            else:
                joins.append(alone is not None and self._joins(number, own, series.by_lookup[part], alone[part]))
        return series._replace(trees=trees, joins=joins)

    def _joins(self, drafter: int, places: IntArray, by_lookup: BoolArray, alone: BoolArray) -> bool:
        """Whether any of these requests is drafted for by several; notes for whom of them a model is run."""
        if alone.all():
            return False
        by_model = ~by_lookup & self._setting.has_kv_cache[drafter]
        self._merging.append((drafter, places[by_model & ~alone]))
        return True

    def verify_job(self) -> VerifyJob:
        """To be done once all drafts are there."""
        stop = self.context_tokens + self.drafted
        spans = TokenSpans(self.rows, self._newest, stop)
        plan = self._setting.layout.plan(spans.num_tokens, stop)
        return VerifyJob(spans, plan, None if self.ready is None else self.drafted_ahead)


def _catch_ups(groups: Groups, missing: TokenSpans, behind: BoolArray) -> list[CatchUpJob | None]:
    """[parts] what each drafter has to catch up with: `missing`, for those that are `behind`."""
    late = behind.nonzero()[0]
    before = late.tolist()
    bounds = [0, *(bisect_left(before, part.stop) for part in groups.slices)]
    return [
        CatchUpJob(number, missing.only(late[begin:end])) if begin < end else None
        for (number, _), (begin, end) in zip(groups.parts, pairwise(bounds), strict=True)
    ]
