"""Functions over static tensors, captured the first time that they are needed, or run as they are."""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import torch

from spinbench.runtime.graphs.capture import capture

LOG = logging.getLogger(__name__)
GraphMode = Literal["eager", "cuda"]
"""`eager`: the same functions over the same static tensors, uncaptured, to show on any device that they are right."""


class Static(Protocol):
    """Static tensors, and a pure function over them: no host synchronisation, no sizes that change."""

    def run(self) -> None:
        """From the static inputs to the static outputs."""
        ...


Kind = TypeVar("Kind", bound=Static)


@dataclass(frozen=True, slots=True)
class Replay(Generic[Kind]):
    """Fill `static`, then `run`."""

    static: Kind
    run: Callable[[], None]


@dataclass(slots=True)
class GraphMemory:
    """What captured graphs hold, and may hold, on the device."""

    cap_bytes: int = 1 << 30
    held_bytes: int = 0


class Replays:
    """The replays of one model, by what they are captured for."""

    def __init__(self, mode: GraphMode, device: torch.device, memory: GraphMemory) -> None:
        self._mode = mode
        self._device = device
        self._memory = memory
        self._known: dict[Hashable, Replay | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if mode == "cuda" else None
        self._is_broken = False
        self._told: set[str] = set()

    def get(self, key: Hashable, make: Callable[[], Kind], fill: Callable[[Kind], None]) -> Replay[Kind] | None:
        """The replay for `key`, its inputs filled in. The first time it is made and captured.

        None where the graphs' memory is used up or the capture fails: the caller then runs without, the log says why.
        A model that cannot be captured is not tried again.
        """
        if key in self._known:
            replay = self._known[key]
            if replay is not None:
                fill(replay.static)
            return replay
        if self._is_broken:
            return None
        memory = self._memory
        if memory.held_bytes >= memory.cap_bytes:
            self.tell(
                f"CUDA graphs hold {memory.held_bytes / 1e9:.2f} GB, of {memory.cap_bytes / 1e9:.2f} GB that they may; "
                "further sizes run without a graph (engine.graph_memory_gb)"
            )
            return None
        static = make()
        fill(static)
        self._known[key] = replay = Replay(static, static.run) if self._mode == "eager" else self._captured(static)
        return replay

    def tell(self, reason: str) -> None:
        """Say once why something runs without a graph."""
        if reason not in self._told:
            self._told.add(reason)
            LOG.warning(reason)

    def _captured(self, static: Kind) -> Replay[Kind] | None:
        try:
            # what is written into the KV pool is the same each time: running several times does no harm
            captured = capture(static.run, self._device, self._pool)
        except torch.OutOfMemoryError:
            self.tell("a CUDA graph is not captured for want of memory; sizes that have none run without")
            return None
        except RuntimeError as error:
            self._is_broken = True
            self.tell(f"a CUDA graph cannot be captured, so this model goes on without: {str(error).splitlines()[0]}")
            return None
        self._memory.held_bytes += captured.held_bytes
        return Replay(static, captured.replay)
