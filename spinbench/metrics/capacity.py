"""The largest request rate at which a server keeps its service level objectives, found by bisection."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from spinbench.errors import UserError

LEAST_SHARE_OF_SATURATION = 2.0**-10
"""Below this share of what the server can finish, requests hardly ever meet: slower ones would see nothing else."""
RATE_DIGITS = 6
"""Significant digits of the rates that are tried, so that they can be named."""


@dataclass(frozen=True, slots=True)
class Load:
    """What became of the requests at one rate."""

    request_rate: float
    """Requests per second that arrive in the mean; `inf` = all at once."""
    num_requests: int
    num_within: int
    """Requests within every limit."""
    request_throughput: float
    """Requests per second that were finished."""

    @property
    def share_within(self) -> float:
        """Of all requests."""
        return self.num_within / self.num_requests


@dataclass(frozen=True, slots=True)
class Capacity:
    """Where the share of requests within the limits falls below the goal."""

    goal: float
    """Share of requests that shall be within the limits, 0 to 1."""
    request_rate: float
    """The largest rate tried that keeps the goal, requests per second."""
    fails_at: float
    """The smallest rate tried above it, which does not."""
    saturation_rate: float
    """Requests per second that are finished when all are there from the start: what the server can do at the most."""
    loads: tuple[Load, ...]
    """All that was tried, by rate."""

    @property
    def disorder(self) -> tuple[Load, ...]:
        """Rates below the capacity that miss the goal all the same: noise, as of too few requests."""
        return tuple(
            load for load in self.loads if load.request_rate < self.request_rate and load.share_within < self.goal
        )


def find_capacity(measure: Callable[[float], Load], goal: float, tolerance: float) -> Capacity:
    """The largest rate at which the share of requests within the limits is at least `goal`.

    Asks `measure` first for all requests at once, which says what the server can finish; halves or doubles that rate
    until one rate keeps the goal and one misses it; then bisects until they are within a share of `tolerance` of each
    other. Raises UserError where no rate keeps the goal, or none misses it.
    """
    loads: dict[float, Load] = {}

    def keeps(rate: float) -> bool:
        loads[rate] = measure(rate)
        return loads[rate].share_within >= goal

    if keeps(math.inf):
        load = loads[math.inf]
        raise UserError(
            f"{load.num_within} of {load.num_requests} requests keep the SLO even if all come at once, so no rate is "
            "too high: take a longer trace (trace.num_prompts) or a tighter slo"
        )
    saturation = loads[math.inf].request_throughput
    low, high = _bracket(keeps, loads, saturation, goal)
    while high - low > tolerance * high:
        middle = _rounded((low + high) / 2)
        if middle in (low, high):
            break
        if keeps(middle):
            low = middle
        else:
            high = middle
    return Capacity(goal, low, high, saturation, tuple(loads[rate] for rate in sorted(loads)))


def _bracket(
    keeps: Callable[[float], bool], loads: dict[float, Load], saturation: float, goal: float
) -> tuple[float, float]:
    """A rate that keeps the goal and one above it that does not, a factor of 2 apart."""
    rate = _rounded(saturation)
    if keeps(rate):
        while keeps(_rounded(2 * rate)):
            rate = _rounded(2 * rate)
        return rate, _rounded(2 * rate)
    while not keeps(_rounded(rate / 2)):
        rate = _rounded(rate / 2)
        if rate < LEAST_SHARE_OF_SATURATION * saturation:
            load = loads[rate]
            raise UserError(
                f"no rate reaches the goal of {goal:.6g}: even at {rate:.3g} requests/s, {rate / saturation:.2g} of "
                f"what can be finished, {load.num_within} of {load.num_requests} requests keep the SLO; loosen slo or "
                "goal"
            )
    return _rounded(rate / 2), rate


def _rounded(rate: float) -> float:
    return float(f"{rate:.{RATE_DIGITS}g}")
