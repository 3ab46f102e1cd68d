"""How far a sweep is, live in a terminal; nothing at all in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from spinbench.cli.progress import REFRESHES_PER_SECOND, Report
from spinbench.control.loop_setting import Progress

PACE_S = 600.0
"""Length of the past by whose pace the time left is told, in seconds."""


class SweepProgress:
    """A bar of points, and one of the requests of the point at hand where that is known."""

    def __init__(self, display: Display | None, total: int) -> None:
        self._display = display
        self._points = None if display is None else display.add_task("points", total=total, also="")

    def points(self, done: int, failed: int) -> None:
        """So many points are done, and so many failed."""
        if self._display is not None and self._points is not None:
            self._display.update(self._points, completed=done + failed, also=f"{failed} failed" if failed else "")

    @contextmanager
    def requests(self, label: str, num_requests: int, now: Callable[[], float]) -> Iterator[Report | None]:
        """What a `ServingLoop` reports to, see `show_progress`."""
        display = self._display
        if display is None:
            yield None
            return
        task = display.add_task(label, total=num_requests, also="")

        def report(progress: Progress) -> None:
            rate = progress.emitted_tokens / max(now(), 1e-9)
            display.update(task, completed=progress.finished_requests, also=f"{rate:.1f} tok/s")

        try:
            yield report
        finally:
            display.remove_task(task)


@contextmanager
def show_sweep(total: int) -> Iterator[SweepProgress]:
    """The display of a sweep of `total` points that are to be done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield SweepProgress(None, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[also]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Display(
        *columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND, speed_estimate_period=PACE_S
    ) as display:
        yield SweepProgress(display, total)
