"""A replica's inbox where requests come from another thread, at any time."""

import threading
from collections.abc import Callable

from spinbench.control.router.inbox import Inbox
from spinbench.workload.request import Request

LOOK_S = 0.005
"""Between two looks at the inbox while jobs are under way on several lanes."""


class LiveInbox(Inbox):
    """An inbox that is open until it is closed; the loop's thread sleeps in it while there is nothing to do."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is the loop's clock, in seconds."""
        super().__init__()
        self._now = now
        self._changed = threading.Condition()
        self._is_open = True

    def __len__(self) -> int:
        """Requests not yet taken in, and one more while others may come."""
        with self._changed:
            return super().__len__() + self._is_open

    def put(self, request: Request, arrival_s: float) -> None:
        """A request that was routed here."""
        with self._changed:
            super().put(request, arrival_s)
            self._changed.notify()

    def close(self) -> None:
        """No further request will come."""
        with self._changed:
            self._is_open = False
            self._changed.notify()

    def held(self) -> tuple[Request, ...]:
        """Requests not yet taken in."""
        with self._changed:
            return tuple(self.requests)

    def next_due_s(self, num_outstanding: int) -> float | None:
        """When to look again. With nothing to serve it returns only when a request comes, or none will any more."""
        with self._changed:
            while self._is_open and not num_outstanding and not super().__len__():
                self._changed.wait()
            due_s = super().next_due_s(num_outstanding)
            if due_s is not None:
                return due_s
            if not num_outstanding:
                return self._now()  # it is over: the loop looks once more, and ends
            return self._now() + LOOK_S if self._is_open else None

    def take_due(self, now_s: float, num_outstanding: int) -> list[tuple[Request, float]]:
        """Everything that arrived by `now_s`."""
        with self._changed:
            return super().take_due(now_s, num_outstanding)
