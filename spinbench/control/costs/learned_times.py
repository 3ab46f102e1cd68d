"""What rounds cost where nobody profiled it: learned from the times of the run's own jobs."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.round_prices import DraftPrices, RoundPrices, row_slopes_s
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.request_table import NO_DRAFTER

VERIFY_SHARES = (1.0, 0.02, 0.02)
MODEL_SHARES = (0.02, 0.08, 0.005)
COPY_SHARES = (0.005, 0.0005, 0.0005)
"""What is believed before the first round, as shares of a verification: (a pass, a request, a drafted row) and, of a
draft, (a job, a step, a request in a step). A run's own times soon outweigh them."""
PRIOR_DEVIATION = 1.0
"""Of a share, relative to it."""
NOISE_DEVIATION = 0.1
"""Of a job's time, relative to what is expected."""
MIN_SHARE = 1e-4


class LearnedTimes:
    """Prices from linear laws, one for verification and one for each source, fitted by recursive least squares.

    A law begins at shares of the first verification that was seen; without a single one, in units of it, since only
    ratios of times decide. KV catch-up is not among the times that a round reports: it is priced as a step whose
    requests are the missing tokens.
    """

    def __init__(
        self, sources: DraftSources, max_num_speculative_tokens: int, schedule: RoundSchedule = BY_TURNS
    ) -> None:
        """`schedule` without an overlap: what slows lanes is in the times that are learned from."""
        self._sources = sources
        self._schedule = schedule
        self._most = max_num_speculative_tokens
        self._unit_s = 0.0
        self._verify = _LinearTime(VERIFY_SHARES)
        self._draft = [
            _LinearTime(MODEL_SHARES if source < sources.num_models else COPY_SHARES) for source in range(len(sources))
        ]

    def prices(self, context: RoundContext, missing_tokens: IntArray) -> RoundPrices:
        """From what is known by now."""
        count, unit_s = len(context), self._unit_s or 1.0
        pass_s, request_s, row_s = unit_s * self._verify.shares
        rows = context.ready_tokens + np.arange(2 * count * self._most + 1)
        verify_s = pass_s + (count + context.num_ready) * request_s + row_s * rows
        shares = unit_s * np.array([law.shares for law in self._draft]).reshape(-1, 3)
        draft = DraftPrices(shares[:, 0], np.zeros(len(shares)), shares[:, 1], shares[:, 2])
        missing_s = np.where(missing_tokens > 1, shares[:, 1] + shares[:, 2] * missing_tokens, 0.0)
        missing_s[:, self._sources.num_models :] = 0.0
        schedule = self._schedule.with_in_flight(context.num_in_flight)
        return RoundPrices(verify_s, row_slopes_s(verify_s), 0.0, np.zeros(count), draft, missing_s, schedule)

    def observe(self, outcome: RoundOutcome) -> None:
        """Fit the verification, and the law of each source that drafted."""
        self._unit_s = self._unit_s or outcome.verify_time_s
        if self._unit_s <= 0:
            return
        rows = int(outcome.drafted_nodes.sum())
        self._verify.observe((1, len(outcome.rows), rows), outcome.verify_time_s / self._unit_s)
        # a job that drafted ahead is not known in full here: some of its requests' drafts came to nothing; of branches
        # it is not known whose job took how much of the time
        is_unknown = outcome.drafted_ahead | (outcome.drafted_nodes > outcome.drafted)
        drafted = np.where(is_unknown, NO_DRAFTER, outcome.drafter)
        for drafter in np.unique(drafted[drafted != NO_DRAFTER]).tolist():
            group = drafted == drafter
            asked = group & (outcome.draft_steps > 0)
            share = float(outcome.draft_time_s[group].max()) / self._unit_s
            if asked.any():  # copies of the same job take next to nothing
                source = int(self._sources.source_of_drafter[drafter])
                steps, count = int(outcome.draft_steps[asked].max()), int(np.count_nonzero(asked))
            else:
                source, steps, count = len(self._sources) - 1, 1, int(np.count_nonzero(group))
            self._draft[source].observe((1, steps, steps * count), share)


class _LinearTime:
    """A time as a sum of three terms: the posterior mean under normal laws."""

    def __init__(self, prior_shares: tuple[float, float, float]) -> None:
        self._mean: FloatArray = np.array(prior_shares)
        self._covariance = np.diag(np.square(PRIOR_DEVIATION * self._mean))

    @property
    def shares(self) -> FloatArray:
        """What a unit of each term takes; none is negative."""
        return np.maximum(self._mean, 0.0)

    def observe(self, terms: tuple[int, int, int], share: float) -> None:
        """Kalman's update by one job."""
        seen = np.array(terms, np.float64)
        spread = self._covariance @ seen
        expected = float(seen @ self._mean)
        noise = NOISE_DEVIATION * max(expected, MIN_SHARE)
        gain = spread / (seen @ spread + noise**2)
        self._mean = self._mean + gain * (share - expected)
        self._covariance = self._covariance - np.outer(gain, spread)
