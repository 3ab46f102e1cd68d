"""What the parts of a round cost: the terms that a choice of drafters and draft lengths adds up."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.drafting.drafted_again import job_again_s, log_chance, own_again_s

MAX_SLOPES = 6
"""Parts of the curve of a verification over its rows that are told apart when models are compared."""

Sources = int | tuple[slice, None]
"""Of one source, or of several, as rows beside columns of cases: `np.s_[:, None]` are all."""


@dataclass(frozen=True, slots=True)
class DraftPrices:
    """Seconds of each source's draft job, float [sources] each, for a stated number of requests and mean context."""

    job_s: FloatArray
    """Once for the group."""
    request_s: FloatArray
    """For each request in it."""
    step_s: FloatArray
    """For each step, however many requests draft in it."""
    step_request_s: FloatArray
    """For each request in each step."""

    def lane_s(self, sources: Sources, steps: IntArray) -> FloatArray:
        """Of a job in which `steps` tokens are drafted, by cases of these, whoever is in it; 0 for none."""
        return (steps > 0) * self.job_s[sources] + steps * self.step_s[sources]

    def own_s(self, sources: Sources, steps: IntArray) -> FloatArray:
        """What each of its requests adds to it."""
        return (steps > 0) * self.request_s[sources] + steps * self.step_request_s[sources]

    def job_of_s(self, sources: Sources, count: int, steps: IntArray) -> FloatArray:
        """Of the job of `count` requests."""
        return self.lane_s(sources, steps) + count * self.own_s(sources, steps)


@dataclass(frozen=True, slots=True)
class RoundPrices:
    """The parts of a round of n requests: its verification takes verify_s[drafted rows] and what drafts add to it, and
    the rest is drafting. In seconds, on lanes of which the others are idle."""

    verify_s: FloatArray
    """[n * 2 * K + 1], by drafted rows of all requests together, of which each may have two drafts: verification and
    the loop's own time. What the round verifies besides (`RoundContext.num_ready`) is in it."""
    row_slopes_s: FloatArray
    """Seconds that a further row of it costs, at different numbers of rows, rising."""
    drafting_s: float
    """For each request with any drafted token: its attention becomes ragged."""
    row_s: FloatArray
    """[n], for each drafted row of a request: attention over its context."""
    draft: DraftPrices
    missing_s: FloatArray
    """[n, sources]: catching up with a request, not counting what a job costs anyway."""
    schedule: RoundSchedule = BY_TURNS
    """How the two come to the time of the round."""

    def round_s(self, lengths: IntArray, source: IntArray, rate: FloatArray, num_models: int) -> FloatArray:
        """Predicted seconds of the round, by cases of what it drafts, [cases].

        In each, a request drafts `lengths` [cases, n] tokens, 0 = none, from its `source` [n], of which the first
        `num_models` are models; catching up is not counted. `rate` [n]: chance that a token of its source is right, by
        which a draft that is made ahead can be kept.
        """
        draft, schedule = self.draft, self.schedule
        verify_s = self.verify_s[lengths.sum(1)] + self.drafting_s * (lengths > 0).sum(1) + lengths @ self.row_s
        drafting_s, ahead_s = np.zeros((2, len(lengths)))
        for used in np.unique(source[(lengths > 0).any(0)]).tolist():
            is_own = source == used
            own = lengths[:, is_own]
            lane_s, own_s = draft.lane_s(used, own.max(1)), draft.own_s(used, own)
            if schedule.drafts_ahead and used < num_models:
                further = np.where(own > 0, own + 1, 0)
                further_s = draft.lane_s(used, further.max(1)) + draft.own_s(used, further).sum(1)
                ahead_s = schedule.together_s(ahead_s, further_s)
                guesses = rate[is_own] ** (own + 1)
                log_all_right = np.where(own > 0, log_chance(guesses), 0.0).sum(1)
                job_s = job_again_s(lane_s, own_again_s(guesses, own_s).sum(1), log_all_right)
            else:
                job_s = lane_s + own_s.sum(1)
            drafting_s = schedule.together_s(drafting_s, job_s)
        return schedule.round_s(drafting_s, verify_s, ahead_s)


def row_slopes_s(verify_s: FloatArray) -> FloatArray:
    """Mean slopes of `MAX_SLOPES` parts of a curve over rows, each once, rising."""
    knots = np.unique(np.linspace(0, len(verify_s) - 1, MAX_SLOPES + 1).astype(np.int64))
    return np.unique(np.diff(verify_s[knots]) / np.diff(knots))


class RoundTimes(Protocol):
    """Knows what rounds cost, or learns it from the times of jobs."""

    def prices(self, context: RoundContext, missing_tokens: IntArray) -> RoundPrices:
        """Prices for these requests; `missing_tokens` [n, sources] are tokens that a source has not seen."""
        ...

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a finished round."""
        ...
