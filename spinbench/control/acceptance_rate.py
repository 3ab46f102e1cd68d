"""How much of what is drafted is accepted, as a moving estimate: per drafter, and per request."""

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.context import RoundOutcome
from spinbench.control.request_table import NO_DRAFTER

PRIOR_TOKENS = 4.0
"""Weight of what is believed without evidence, in drafted tokens."""
MAX_RATE = 0.999


class AcceptanceRate:
    """Conditional acceptance rate: P(a drafted token is accepted, given that all before it were).

    Old evidence fades by a factor with every round, also when nothing is drafted: then a drafter's rate goes back to
    `prior_rate`, and a request's to its drafter's. So a policy that stopped drafting tries again after a while.
    """

    def __init__(self, num_drafters: int, num_requests: int, prior_rate: float, decay: float) -> None:
        self._prior_rate = prior_rate
        self._decay = decay
        self._of_drafter = np.zeros((num_drafters, 2))
        """Accepted, tried."""
        self._of_request = np.zeros((num_requests, 2))

    def of_drafters(self) -> FloatArray:
        """Rate of each drafter, [drafters]."""
        accepted, tried = self._of_drafter.T
        return np.minimum((accepted + PRIOR_TOKENS * self._prior_rate) / (tried + PRIOR_TOKENS), MAX_RATE)

    def of_requests(self, rows: IntArray, drafters: IntArray) -> FloatArray:
        """Rate of each request with its drafter, [requests], pooled with the drafter's; 0 without one."""
        accepted, tried = self._of_request[rows].T
        shared = np.append(self.of_drafters(), 0.0)[drafters]  # NO_DRAFTER is the last entry
        rate = np.minimum((accepted + PRIOR_TOKENS * shared) / (tried + PRIOR_TOKENS), MAX_RATE)
        return np.where(drafters == NO_DRAFTER, 0.0, rate)

    def observe(self, outcome: RoundOutcome) -> None:
        """Take a round in: the accepted tokens, and the one that ended the draft, if one did."""
        # behind the end of a text nothing is accepted, however right it is
        tried = np.where(outcome.finished, outcome.accepted, np.minimum(outcome.accepted + 1, outcome.drafted))
        evidence = np.stack((outcome.accepted, tried), 1).astype(np.float64)
        self._of_request[outcome.rows] = self._of_request[outcome.rows] * self._decay + evidence
        self._of_drafter *= self._decay
        drafted = outcome.drafter != NO_DRAFTER
        np.add.at(self._of_drafter, outcome.drafter[drafted], evidence[drafted])
