"""When requests reach the server: as traced, all at once, or at random with a given rate; open or closed loop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from spinbench.errors import UserError
from spinbench.workload.request import Request

ArrivalKind = Literal["trace", "all_at_once", "gamma"]


@dataclass(frozen=True, slots=True)
class ArrivalPattern:
    """How arrival times are made. Raises UserError, naming the key, for a value out of range or without effect."""

    kind: ArrivalKind = "trace"
    """`trace`: the requests' own times; `all_at_once`: every one at 0; `gamma`: drawn, see `request_rate`."""
    request_rate: float = math.inf
    """Mean requests per second of `gamma`, > 0; `inf` = all at once."""
    burstiness: float = 1.0
    """Shape of the gamma law between arrivals, > 0: 1 = Poisson, less = burstier, `inf` = evenly spaced."""
    max_concurrency: int | None = None
    """Requests at the server at a time, at least 1; `None` = open loop, no cap."""
    seed: int = 0
    """Seeds the gaps of `gamma`."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ArrivalKind):
            raise UserError(f'arrivals.kind is "{self.kind}"; kinds are {", ".join(get_args(ArrivalKind))}')
        # `not >` also catches nan.
        if not self.request_rate > 0:
            raise UserError(f"arrivals.request_rate is {self.request_rate}; it must be > 0 or inf")
        if not self.burstiness > 0:
            raise UserError(f"arrivals.burstiness is {self.burstiness}; it must be > 0 or inf")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise UserError(f"arrivals.max_concurrency is {self.max_concurrency}; it must be >= 1, or null for no cap")
        if self.seed < 0:
            raise UserError(f"arrivals.seed is {self.seed}; it must be >= 0")
        self._refuse_without_effect("request_rate", self.request_rate, default=math.inf, only_kind="gamma")
        self._refuse_without_effect("burstiness", self.burstiness, default=1.0, only_kind="gamma")

    def _refuse_without_effect(self, key: str, value: float, default: float, only_kind: ArrivalKind) -> None:
        if value != default and self.kind != only_kind:
            raise UserError(
                f"arrivals.{key} is {value} but has no effect with arrivals.kind={self.kind}; "
                f"set arrivals.kind={only_kind} or leave it at {default}"
            )


class Arrivals(Protocol):
    """Where a server gets its requests from."""

    def __len__(self) -> int:
        """Requests not yet sent; 0 = none will come any more."""
        ...

    def next_due_s(self, num_outstanding: int) -> float | None:
        """When to look again for requests, in seconds; `None` = an end of a job comes first, if anything comes."""
        ...

    def take_due(self, now_s: float, num_outstanding: int) -> list[tuple[Request, float]]:
        """The requests sent by `now_s`, each with its arrival time in seconds, in order."""
        ...


class ArrivalQueue:
    """Requests not yet sent, in order; open or closed loop.

    The server polls it whenever something happens. A place under `max_concurrency` is taken to become free at the poll
    that first reports it, so a poll must follow each completion.
    """

    def __init__(self, requests: Sequence[Request], pattern: ArrivalPattern):
        ordered = list(requests)
        if pattern.kind == "trace":
            ordered.sort(key=lambda request: request.arrival_s)
        self.requests = tuple(ordered)
        """All requests of the run, in the order in which they are sent."""
        self._scheduled_s = scheduled_arrivals_s(ordered, pattern)
        self._max_concurrency = math.inf if pattern.max_concurrency is None else pattern.max_concurrency
        self._num_sent = 0
        self._free_places = self._max_concurrency
        """Places that have been free since the last poll: who takes one of these did not wait for it."""

    def __len__(self) -> int:
        """Requests not yet sent."""
        return len(self.requests) - self._num_sent

    def next_due_s(self, num_outstanding: int) -> float | None:
        """When the next request could be sent, possibly in the past: `None` when all are sent or the cap is reached."""
        if not len(self) or num_outstanding >= self._max_concurrency:
            return None
        return self._scheduled_s[self._num_sent]

    def take_due(self, now_s: float, num_outstanding: int) -> list[tuple[Request, float]]:
        """The requests sent by `now_s`, each with its arrival time in seconds; arrival times never decrease.

        `num_outstanding` counts requests sent and not yet finished. A request arrives at its scheduled time, even when
        the server polls later; one that had to wait for a place arrives when it gets it, at `now_s`.
        """
        sent: list[tuple[Request, float]] = []
        while (due_s := self.next_due_s(num_outstanding + len(sent))) is not None and due_s <= now_s:
            had_to_wait = self._free_places < 1
            self._free_places -= 1
            sent.append((self.requests[self._num_sent], max(due_s, now_s) if had_to_wait else due_s))
            self._num_sent += 1
        self._free_places = self._max_concurrency - num_outstanding - len(sent)
        return sent


def scheduled_arrivals_s(requests: Sequence[Request], pattern: ArrivalPattern) -> list[float]:
    """When each request is due, in seconds from the start, never decreasing for requests in order of arrival.

    Gaps of `gamma` have mean 1 / request_rate and shape `burstiness`, as in `vllm bench serve`; the first request comes
    after the first gap. vLLM then stretches all times so that the last one falls exactly on num_prompts / request_rate;
    we do not, so the gaps keep the law they were drawn from and the rate of one run varies with its seed.
    """
    if pattern.kind == "trace":
        return [request.arrival_s for request in requests]
    if pattern.kind == "all_at_once" or pattern.request_rate == math.inf:
        return [0.0] * len(requests)
    mean_gap_s = 1.0 / pattern.request_rate
    if pattern.burstiness == math.inf:
        return [mean_gap_s * (index + 1) for index in range(len(requests))]
    rng = np.random.default_rng(pattern.seed)
    gaps_s = rng.gamma(shape=pattern.burstiness, scale=mean_gap_s / pattern.burstiness, size=len(requests))
    times_s = np.cumsum(gaps_s)
    if not np.isfinite(times_s).all():
        raise UserError(
            f"arrivals.request_rate is {pattern.request_rate} and arrivals.burstiness {pattern.burstiness}: "
            "so small that arrival times overflow"
        )
    return times_s.tolist()
