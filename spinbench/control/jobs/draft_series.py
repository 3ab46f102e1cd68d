"""The catch-ups and drafts of a round, drafter by drafter: as columns, and as jobs."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.control.drafting.drafter_groups import Groups
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.body import KnownTimes
from spinbench.control.jobs.job import CatchUpJob, DraftJob, TokenSpans

MAX_UNSEEN_TOKENS = 16
"""Known tokens that a drafter takes in with its first draft step. After a round of its own it lacks two at the most
(its last draft was never fed back), after one of others a few more: cheaper together than as a job of their own. With
more than this it did not follow the request, and catches up first."""


class DraftSeries(NamedTuple):
    """Arrays with an entry per request and drafter, in the order of `groups.places`."""

    groups: Groups
    spans: TokenSpans
    """What each drafter takes in with its draft."""
    num_speculative_tokens: IntArray
    by_lookup: BoolArray
    catch_ups: Sequence[CatchUpJob | None]
    """[parts] what each drafter has to do first, None = nothing; none at all = nobody has to."""
    measure_confidence: bool
    stop: ConfidenceStop | None
    trees: Sequence[TreeShape | None] = ()
    """[parts] shapes of what models draft; none at all = chains."""
    joins: Sequence[bool] = ()
    """[parts] whether drafts are put together with others'; none at all = they are not."""

    def jobs(self) -> Iterator[CatchUpJob | DraftJob]:
        """Each drafter's jobs, in the order in which they are to be done."""
        for index, draft in enumerate(self.drafts()):
            if self.catch_ups and (catch_up := self.catch_ups[index]) is not None:
                yield catch_up
            yield draft

    def drafts(self) -> Iterator[DraftJob]:
        """[parts] each drafter's draft job."""
        rows, first, newest = self.spans.rows, self.spans.start, self.spans.stop
        for index, ((number, _), part) in enumerate(zip(self.groups.parts, self.groups.slices, strict=True)):
            yield DraftJob(
                number,
                TokenSpans(rows[part], first[part], newest[part]),
                self.num_speculative_tokens[part],
                self.by_lookup[part],
                self.measure_confidence,
                self.trees[index] if self.trees else None,
                bool(self.joins) and self.joins[index],
                self.stop,
            )


class SeriesDone(NamedTuple):
    """A series that was done at one go."""

    series: DraftSeries
    lanes: Sequence[str]
    """[parts]"""
    times: Sequence[KnownTimes]
    """[jobs] when each began and ended, in seconds on the engine's clock."""

    @property
    def draft_times(self) -> Sequence[KnownTimes]:
        """[parts] those of the drafts."""
        if not self.series.catch_ups:
            return self.times
        ends = accumulate(1 if catch_up is None else 2 for catch_up in self.series.catch_ups)
        return [self.times[end - 1] for end in ends]


class DraftsAtOnce(Protocol):
    """A body with an only lane, which can do what is next on it while the loop waits."""

    def draft_at_once(self, series: DraftSeries) -> SeriesDone:
        """Draft chains by models to their full length. Nothing else is under way; on return the time has passed."""
        ...
