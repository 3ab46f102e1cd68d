"""Tasks that a device may have too little memory for."""

from collections.abc import Callable
from typing import TypeVar

import torch

from spinbench.runtime.graphs.capture import ONE_AT_A_TIME

Value = TypeVar("Value")


def if_it_fits(task: Callable[[], Value]) -> tuple[Value] | None:
    """What `task` gives; None where the device runs out of memory, and then cached memory is given back."""
    done = _attempt(task)
    if done is None and torch.cuda.is_available():
        with ONE_AT_A_TIME:
            torch.cuda.empty_cache()
    return done


def _attempt(task: Callable[[], Value]) -> tuple[Value] | None:
    """This frame is left before memory is given back: an error holds what it was raised in."""
    try:
        return (task(),)
    except torch.OutOfMemoryError:
        return None


def at_any_rate(task: Callable[[], Value]) -> tuple[Value] | None:
    """What `task` gives, or the error that it raises."""
    return (task(),)
