"""How many of many short things are done, live in a terminal; nothing at all in a log."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

MIN_SHOWN = 100
"""Fewer are gone through before one could read it."""
REFRESHES_PER_SECOND = 4

T = TypeVar("T")


@contextmanager
def counted(doing: str, items: Sequence[T]) -> Iterator[Iterable[T]]:
    """The items, to be gone through once, and a bar meanwhile that says what is being done to them."""
    if len(items) < MIN_SHOWN:
        yield items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield items
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND) as display:
        yield display.track(items, description=doing)
