"""Waiting for a time, in steps."""

import time
from collections.abc import Callable

LONGEST_SLEEP_S = 0.25
"""Ctrl-C may reach another of the process's threads, which wakes nobody: the main one has to look by itself."""


def sleep_until(deadline_s: float, now: Callable[[], float]) -> None:
    """Return when `now` says so, at once if it does already. KeyboardInterrupt comes through."""
    while (left_s := deadline_s - now()) > 0:
        time.sleep(min(left_s, LONGEST_SLEEP_S))
