"""What was routed to a replica and is not yet taken in by its serving loop."""

from collections import deque
from collections.abc import Iterable

from spinbench.workload.request import Request


class Inbox:
    """A replica's `Arrivals`: others put requests in, and tell the loop when to look."""

    def __init__(self) -> None:
        self._requests: deque[tuple[Request, float]] = deque()

    def __len__(self) -> int:
        """Requests not yet taken in."""
        return len(self._requests)

    @property
    def requests(self) -> Iterable[Request]:
        """Those, in order."""
        return (request for request, _ in self._requests)

    def put(self, request: Request, arrival_s: float) -> None:
        """A request that was routed here."""
        self._requests.append((request, arrival_s))

    def next_due_s(self, num_outstanding: int) -> float | None:
        """When the next request that is in here arrived."""
        return self._requests[0][1] if self._requests else None

    def take_due(self, now_s: float, num_outstanding: int) -> list[tuple[Request, float]]:
        """Everything that arrived by `now_s`."""
        due: list[tuple[Request, float]] = []
        while self._requests and self._requests[0][1] <= now_s:
            due.append(self._requests.popleft())
        return due
