"""Lanes: threads that run jobs side by side, each with its own share of the CPU's cores, or its own CUDA stream."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Condition
from typing import Any

import torch

from spinbench.runtime.lanes.sleeping import LONGEST_SLEEP_S
from spinbench.runtime.lanes.streams import stream_of


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that is over, and what came of it. Times are `time.perf_counter()`'s."""

    key: Any
    result: Any
    error: BaseException | None
    start_s: float
    end_s: float


class Lanes:
    """One thread a lane; tasks of a lane run in the order they came, and their ends are told in the order of the ends.

    How many cores an operation uses is no property of the process: `torch.set_num_threads` sets OpenMP's number for the
    thread that calls it (and the number that later threads begin with), MKL's likewise (PyTorch's
    aten/src/ATen/ParallelOpenMP.cpp). So each lane sets its own once, at its start, and the others keep theirs. Tasks
    must not share what they write.
    """

    def __init__(self, num_threads: Sequence[int], device: torch.device) -> None:
        """A lane for each entry, with so many CPU threads."""
        self._changed = Condition()
        self._ended: deque[Ended] = deque()
        self._num_in_flight = 0
        on_gpu = device.type == "cuda"
        self._streams = [stream_of(f"lane {lane}", device) if on_gpu else None for lane in range(len(num_threads))]
        self._executors = [
            ThreadPoolExecutor(1, "lane", initializer=partial(_use_cores, count)) for count in num_threads
        ]

    def submit(self, lane: int, key: Any, task: Callable[[], Any]) -> None:
        """Queue a task; `key` comes back with its end."""
        self._num_in_flight += 1
        self._executors[lane].submit(self._run, self._streams[lane], key, task)

    def next_end(self, deadline_s: float | None) -> Ended | None:
        """The next task to end; None if none of them ended up to `deadline_s`. Raises what the task raised."""
        with self._changed:
            while not self._ended:
                if deadline_s is None:
                    if not self._num_in_flight:
                        raise RuntimeError("no job in flight and nothing to wait for")
                    self._changed.wait()
                elif (left_s := deadline_s - time.perf_counter()) > 0:
                    self._changed.wait(min(left_s, LONGEST_SLEEP_S))
                else:
                    return None
            # however late the host looks: what counts is which came first
            if deadline_s is not None and self._ended[0].end_s > deadline_s:
                return None
            self._num_in_flight -= 1
            ended = self._ended.popleft()
        if ended.error is not None:
            raise ended.error
        return ended

    def hand_over(self) -> None:
        """Wait until what the calling thread launched is done: the streams of lanes do not wait for its own stream."""
        stream = self._streams[0]
        if stream is not None:
            torch.cuda.current_stream(stream.device).synchronize()

    def drain(self) -> None:
        """Wait until nothing is in flight, and forget what came of it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ended) == self._num_in_flight)
            self._ended.clear()
            self._num_in_flight = 0

    def close(self) -> None:
        """End the threads; tasks that did not begin are dropped."""
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)

    def _run(self, stream: "torch.cuda.Stream | None", key: Any, task: Callable[[], Any]) -> None:
        start_s = time.perf_counter()
        result, error = None, None
        try:
            with torch.inference_mode(), nullcontext() if stream is None else torch.cuda.stream(stream):
                result = task()
            if stream is not None:
                stream.synchronize()  # a job ends when the device is done, and what it made may be read elsewhere
        except BaseException as raised:  # it belongs to the thread that asks
            error = raised
        with self._changed:
            # under the lock, so that ends are in order
            self._ended.append(Ended(key, result, error, start_s, time.perf_counter()))
            self._changed.notify_all()


def _use_cores(count: int) -> None:
    """Give the calling thread `count` threads for its operations."""
    # a thread takes over the number that was set last anywhere when it first needs one, so that has to be behind it
    torch.get_num_threads()
    torch.set_num_threads(count)


def split_cores(num_threads: int, num_lanes: int, drafter_threads: int) -> list[int]:
    """CPU threads of each lane, the target's first: `drafter_threads` for each other one, the target has the rest."""
    others = [drafter_threads] * (num_lanes - 1)
    return [max(1, num_threads - sum(others)), *others]
