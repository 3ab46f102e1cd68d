"""CUDA streams by what they are for, each made once in a process."""

import functools

import torch


def stream_of(purpose: str, device: torch.device) -> torch.cuda.Stream:
    """The device's stream for a purpose: the same one whenever it is asked for.

    torch deals streams out of 32, in turn. Made anew for every run of a sweep, or for every capture, two lanes would
    share one sooner or later; and what one thread launches on a stream on which another captures becomes part of its
    graph (`CUDAStream.cpp`, and CUDA's rules of stream capture).
    """
    return _made(purpose, torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _made(purpose: str, index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(torch.device("cuda", index))
