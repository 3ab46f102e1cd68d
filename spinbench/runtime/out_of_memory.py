"""Tasks that a device may have too little memory for."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from spinbench.errors import UserError
from spinbench.runtime.graphs.capture import ONE_AT_A_TIME

Value = TypeVar("Value")


class TooLittleMemory(UserError):
    """The least that can be done at once does not fit on a device: what, how much was asked for, which key helps."""


def if_it_fits(task: Callable[[], Value]) -> tuple[Value] | None:
    """What `task` gives; None where the device runs out of memory, and then cached memory is given back."""
    done = _attempt(task)
    if done is None:
        _give_back()
    return done


def _attempt(task: Callable[[], Value]) -> tuple[Value] | None:
    """This frame is left before memory is given back: an error holds what it was raised in."""
    try:
        return (task(),)
    except torch.OutOfMemoryError:
        return None


@contextmanager
def too_little_memory(what: str, remedy: str) -> Iterator[None]:
    """Raise TooLittleMemory, a line that begins with `what`, where the device runs out of memory while inside."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # the line may be kept to the end of a sweep: without the tensors of where memory ended
        traceback.clear_frames(error.__traceback__)
        _give_back()
        raise TooLittleMemory(f"{what}: out of memory ({_said(error)}); {remedy}") from None


def at_any_rate(task: Callable[[], Value]) -> tuple[Value] | None:
    """What `task` gives, or the error that it raises."""
    return (task(),)


def _said(error: torch.OutOfMemoryError) -> str:
    """What was asked for and what is free, in torch's words; its advice on allocators is left out."""
    return ". ".join(str(error).split(". ")[:3])


def _give_back() -> None:
    if torch.cuda.is_available():
        with ONE_AT_A_TIME:
            torch.cuda.empty_cache()
