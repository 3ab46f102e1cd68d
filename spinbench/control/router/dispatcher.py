"""Sends each request to a replica as it arrives: the part of a run with many replicas that is in front of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from spinbench.control.router.load import ReplicaLoad, ReplicaSnapshot
from spinbench.control.router.protocol import RoutedRequest, Router
from spinbench.errors import UserError
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Request


@dataclass(frozen=True, slots=True)
class Routed:
    """A request on its way."""

    request: Request
    arrival_s: float
    """When it came to the router."""
    replica: int


class Dispatcher:
    """Takes requests as they arrive and lets a router choose for them. The same for both engines."""

    def __init__(
        self, arrivals: ArrivalQueue, router: Router, num_prompt_tokens: Mapping[str, int], num_places: int
    ) -> None:
        """`num_prompt_tokens` by request id; each replica serves `num_places` requests at a time."""
        self._arrivals = arrivals
        self._router = router
        self._num_prompt_tokens = num_prompt_tokens
        self._num_places = num_places

    def __len__(self) -> int:
        """Requests still to come."""
        return len(self._arrivals)

    def next_due_s(self, num_outstanding: int) -> float | None:
        """As `ArrivalQueue.next_due_s`, of all replicas together."""
        return self._arrivals.next_due_s(num_outstanding)

    def take_due(
        self, now_s: float, num_outstanding: int, replicas: Mapping[int, Callable[[], ReplicaSnapshot]]
    ) -> list[Routed]:
        """What arrived by `now_s`, routed. `replicas` has those that take requests, with a look at each of them."""
        due = self._arrivals.take_due(now_s, num_outstanding)
        return self.route(due, replicas) if due else []

    def route(
        self, requests: Iterable[tuple[Request, float]], replicas: Mapping[int, Callable[[], ReplicaSnapshot]]
    ) -> list[Routed]:
        """Requests with their arrival times, routed one after another.

        Raises UserError for a router that names a replica that there is not.
        """
        loads = [ReplicaLoad(index, self._num_places, read) for index, read in replicas.items()]
        routed = []
        for request, arrival_s in requests:
            tokens = RoutedRequest(self._num_prompt_tokens[request.id], request.max_new_tokens)
            place = self._router.choose(tokens, loads)
            if not 0 <= place < len(loads):
                raise UserError(f"router: chose place {place} of {len(loads)}; places are 0 to {len(loads) - 1}")
            loads[place].add(tokens.prompt_tokens, tokens.answer_tokens)
            routed.append(Routed(request, arrival_s, loads[place].index))
        return routed
