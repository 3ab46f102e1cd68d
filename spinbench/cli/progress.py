"""How far a replay is, live in a terminal; nothing at all in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from spinbench.cli.torchrun import Torchrun
from spinbench.control.loop_setting import Progress

REFRESHES_PER_SECOND = 2
"""Drawing takes time from the run that is being measured."""


Report = Callable[[Progress], None]


@contextmanager
def show_progress(label: str, num_requests: int, now: Callable[[], float]) -> Iterator[Report | None]:
    """What a `ServingLoop` reports to, or None where stderr is no terminal. `now` is the body's clock, in seconds."""
    console = Console(stderr=True)
    # of several processes none asks for the time by itself: it is the first one's, which tells all of them together
    if not console.is_terminal or Torchrun.here().size > 1:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("requests  {task.fields[tokens]} tokens  {task.fields[rate]:.1f} tok/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND) as display:
        task = display.add_task(label, total=num_requests, tokens=0, rate=0.0)

        def report(progress: Progress) -> None:
            tokens = progress.emitted_tokens
            rate = tokens / max(now(), 1e-9)
            display.update(task, completed=progress.finished_requests, tokens=tokens, rate=rate)

        yield report


@contextmanager
def show_stage(text: str) -> Iterator[None]:
    """A spinner with `text` while something loads; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    if not (console.is_terminal and Torchrun.here().is_first):
        yield
        return
    with console.status(text):
        yield
