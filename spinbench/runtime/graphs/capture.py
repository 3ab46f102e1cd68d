"""Makes CUDA graphs of functions, whatever other threads do with the device meanwhile."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from spinbench.runtime.lanes.streams import stream_of

WARM_UP_RUNS = 2
"""Runs before a capture: kernels are compiled and libraries take their memory in the first."""
ONE_AT_A_TIME = Lock()
"""torch captures one graph at a time in a process; and nobody may give cached memory back meanwhile."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph and what it holds."""

    replay: Callable[[], None]
    """Launches it on the current stream."""
    held_bytes: int
    """By which the memory that torch holds has grown."""
    run: Callable[[], object]
    """What was captured: with it stays all that it reads, where the graph looks for it."""


def capture(run: Callable[[], object], device: torch.device, pool: Any = None) -> Captured:
    """`run` as a graph whose memory is of `pool`, None = its own. It runs `WARM_UP_RUNS` times before.

    cuBLAS keeps the memory that it works with for each thread and stream, so that graphs captured on one stream would
    share it: those of two lanes would write into it at once, and it would go with the first graph that goes
    (github.com/pytorch/pytorch/issues/193402). Forgotten before and after, it is taken from each graph's own pool; so
    does torch's compiler for its graphs. Graphs of one pool share memory and must not run side by side, nor may one
    read what another left. `torch.cuda.graph` would wait for the device and give back all cached memory, of every lane,
    each time. Raises RuntimeError for what cannot be captured, torch.OutOfMemoryError without memory.
    """
    around = torch.cuda.current_stream(device)
    with ONE_AT_A_TIME:
        stream = stream_of("capture", device)
        stream.wait_stream(around)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                run()
            with _own_workspaces(), _no_garbage_collection():
                before = torch.cuda.memory_reserved(device)
                graph = torch.cuda.CUDAGraph()
                # other lanes may launch, and take memory, meanwhile
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    run()
                except BaseException:
                    with suppress(RuntimeError):  # that the capture is broken is told by the error that broke it
                        graph.capture_end()
                    raise
                graph.capture_end()
                held = torch.cuda.memory_reserved(device) - before
        around.wait_stream(stream)
    return Captured(graph.replay, max(0, held), run)


@contextmanager
def _own_workspaces() -> Iterator[None]:
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What the collector finds may be events and graphs, whose end is not allowed within a capture."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
