"""A job that the device has no memory for is done in two halves, and so on: slower, but done."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.errors import UserError
from spinbench.runtime.graphs.capture import ONE_AT_A_TIME

LOG = logging.getLogger(__name__)
Part = TypeVar("Part")


def in_parts(kind: str, num_requests: int, run: Callable[[IntArray], Part]) -> list[Part]:
    """`run` of all places of a batch, or of as many together as there is memory for, in order.

    What a part wrote before it ran out is written again by its halves, so `run` must allow that. Raises UserError where
    one request alone is too much.
    """
    return _done(kind, np.arange(num_requests), run)


def _done(kind: str, places: IntArray, run: Callable[[IntArray], Part]) -> list[Part]:
    part = _attempt(run, places)
    if part is not None:
        return [part[0]]
    if len(places) == 1:
        raise UserError(
            f"out of memory in a {kind} of one request; lower kv.gpu_memory_utilization, kv.num_blocks or "
            "trace.max_prompt_tokens"
        )
    LOG.warning("out of memory in a %s of %d requests: it is done in two parts", kind, len(places))
    if torch.cuda.is_available():
        with ONE_AT_A_TIME:
            torch.cuda.empty_cache()
    middle = len(places) // 2
    return [*_done(kind, places[:middle], run), *_done(kind, places[middle:], run)]


def _attempt(run: Callable[[IntArray], Part], places: IntArray) -> tuple[Part] | None:
    """None without memory. This frame is left before anything else is tried: an error holds what it was raised in."""
    try:
        return (run(places),)
    except torch.OutOfMemoryError:
        return None
