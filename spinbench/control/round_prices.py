"""What the parts of a round cost: the terms that a choice of drafters and draft lengths adds up."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.round_schedule import BY_TURNS, RoundSchedule

MAX_SLOPES = 6
"""Parts of the curve of a verification over its rows that are told apart when models are compared."""


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

    def job_of_s(self, source: int, count: int, steps: FloatArray | IntArray) -> FloatArray:
        """Of the job for `count` requests that draft `steps` tokens each, by cases of these; 0 for none."""
        once_s = self.job_s[source] + count * self.request_s[source]
        return (steps > 0) * once_s + steps * (self.step_s[source] + count * self.step_request_s[source])

    def missed_job_s(self, source: int, guesses: FloatArray, steps: IntArray) -> FloatArray:
        """As `job_of_s` in the mean, where of each request so much is drafted ahead: it is drafted for again only where
        its guess at the bonus token is wrong, and there is no job only where all are right. `guesses` are the chances
        that they are right, [requests, cases of steps].
        """
        lane_s = (steps > 0) * self.job_s[source] + steps * self.step_s[source]
        own_s = (steps > 0) * self.request_s[source] + steps * self.step_request_s[source]
        return (1 - guesses.prod(0)) * lane_s + (1 - guesses).sum(0) * own_s


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
