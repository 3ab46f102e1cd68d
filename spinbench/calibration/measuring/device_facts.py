"""What a device can do at its best, measured: the limits that passes are held against."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

REPEATS = 5
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}
"""Larger than any cache of such a device."""
MATRIX_SIZE = {"cuda": 8192, "cpu": 512}


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Rates of one device."""

    copy_bytes_per_s: float
    """Read and written."""
    matrix_flops_per_s: float
    """A multiply-add is two."""


def measure_facts(device: torch.device, dtype: torch.dtype) -> DeviceFacts:
    """Copy a large tensor, multiply two large matrices: medians of several."""
    with torch.inference_mode():
        source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        copy_s = median_s(lambda: target.copy_(source), device)
        size = MATRIX_SIZE[device.type]
        # random numbers: of equal ones a GPU takes less power, and its clock stays higher
        left = torch.randn(size, size, dtype=torch.float32, device=device).to(dtype)
        out = torch.empty_like(left)
        product_s = median_s(lambda: torch.mm(left, left, out=out), device)
    return DeviceFacts(2 * source.numel() / copy_s, 2 * size**3 / product_s)


def median_s(run: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Seconds of `run` on the device, the first run aside: by its events, or by the clock of a CPU."""
    run()
    if device.type != "cuda":
        seconds = []
        for _ in range(repeats):
            start_s = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start_s)
        return float(np.median(seconds))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize(device)
    for event in events[:-1]:
        event.record()
        run()
    events[-1].record()
    torch.cuda.synchronize(device)
    each = [first.elapsed_time(after) / 1e3 for first, after in itertools.pairwise(events)]
    return float(np.median(each))
