"""Drafts that are not thought to pay, made now and then to learn whether they do."""

import math

PROBE_TOKENS = 16
"""Drafted tokens of a probe: four times the weight of what is believed without evidence (`AcceptanceRate`)."""


class Probes:
    """Says in which of the rounds that had best be plain a token is drafted for each request.

    A probe is a row of such rounds, since evidence that comes one token at a time, many rounds apart, fades before it
    amounts to anything. It is begun when its price is saved: a share of all the time that rounds take is put by, up to
    the price of one probe, which a run begins with (a token bucket). So by the prices that decisions go by, probes take
    at most that share of a run, and the price of one beyond it. There is no chance in it.
    """

    def __init__(self, share: float) -> None:
        """`share` of the run's time, >= 0 and < 1; 0 = no probes."""
        self._share = share
        self._saved_s = math.inf
        """Cut to the price of a probe when one is asked for."""
        self._tokens_left = 0
        """Of the probe that is under way."""

    def take(self, extra_s: float, catch_up_s: float, num_drafts: int) -> bool:
        """Whether the next round shall draft for `num_drafts` requests, >= 1.

        Then it takes `extra_s` longer than a plain one, and `catch_up_s` for what drafters have not followed, which the
        probe's further rounds do not need.
        """
        if not self._share:
            return False
        price_s = catch_up_s + extra_s * math.ceil(PROBE_TOKENS / num_drafts)
        self._saved_s = min(self._saved_s, price_s)
        if not self._tokens_left:
            if self._saved_s < price_s:
                return False
            self._tokens_left = PROBE_TOKENS
        self._saved_s -= extra_s + catch_up_s
        self._tokens_left = max(0, self._tokens_left - num_drafts)
        return True

    def passed(self, round_s: float) -> None:
        """Put by the share of a round."""
        self._saved_s += self._share * round_s
