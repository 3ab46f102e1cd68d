"""Ctrl-C, taken only where nothing is half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.wrapped_body import WrappedBody


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with what became of the run. Not an `Exception`, so that it ends a whole sweep."""


class InterruptibleBody(WrappedBody[Body]):
    """A body that lets Ctrl-C through while a job runs or while it waits, never between the loop's bookkeeping steps.

    An interrupt in the middle of those would leave a request's tokens and its rounds out of step. With one raised in
    `next_event` the job's result is lost as a whole, and the records stay consistent.
    """

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._in_event = False
        self._pending = False

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The body's next event. Raises KeyboardInterrupt if Ctrl-C came since the last one, or comes meanwhile."""
        self._in_event = True
        try:
            if self._pending:
                raise KeyboardInterrupt
            return super().next_event(deadline_s)
        finally:
            self._in_event = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C is taken as described while inside."""

        def handle(_signal: int, _frame: FrameType | None) -> None:
            self._pending = True
            if self._in_event:
                raise KeyboardInterrupt

        with _handler(handle):
            yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C is ignored while inside: for the moment in which results are written."""
    with _handler(signal.SIG_IGN):
        yield


@contextmanager
def _handler(handler: "signal.Handlers | object") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
