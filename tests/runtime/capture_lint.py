"""Says of a function over static tensors whether a CUDA graph could hold it, on any device."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spinbench.runtime.graphs.static_draft import StaticDraftLoop
from spinbench.runtime.graphs.static_forward import StaticForward
from spinbench.runtime.graphs.static_tree import StaticTreeLoop

LOOPS = (StaticForward, StaticDraftLoop, StaticTreeLoop)
"""All that is captured."""
BY_INDEX = ("aten.index.Tensor", "aten.index_put.default", "aten.index_put_.default", "aten._index_put_impl_.default")
HOST_OPERATIONS = ("aten.lift_fresh.default", "aten._pin_memory.default", "aten.record_stream.default")
"""A tensor of numbers from the host; page-locked memory; what ties memory to a stream."""


class NotCapturable(AssertionError):
    """What a graph cannot hold."""


class WaitLint(TorchDispatchMode):
    """Refuses what makes the host wait for a device: values or sizes that it must know before it goes on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        name = str(func)
        if name in BY_INDEX:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    raise NotCapturable(f"{name}: a mask is counted on the host")
        elif torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise NotCapturable(f"{name}: the host waits for what the device computes")
        return self.seen(func, name, args, kwargs)

    def seen(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """An operation that is allowed."""
        return func(*args, **kwargs)


class CaptureLint(WaitLint):
    """Refuses besides what a graph cannot hold, and notes what it would hold: operations, sizes, memory from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, tuple[Any, ...]]] = []
        self.outside: dict[int, torch.Tensor] = {}
        """By address, what was read or written and made by none of the operations; kept, so that no address is used
        twice."""
        self._made: dict[int, torch.Tensor] = {}

    def seen(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if name in HOST_OPERATIONS:
            raise NotCapturable(f"{name}: comes from the host")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotCapturable(f"{name}: draws numbers of its own")
        for tensor in _tensors((args, kwargs)):
            if (address := _address(tensor)) and address not in self._made:
                self.outside[address] = tensor
        out = func(*args, **kwargs)
        made = _tensors(out)
        for tensor in made:
            if (address := _address(tensor)) and address not in self.outside:
                self._made[address] = tensor
        self.operations.append((name, tuple((tuple(one.shape), one.stride(), one.dtype) for one in made)))
        return out

    def require_same(self, later: "CaptureLint") -> None:
        """Raise NotCapturable where a later run did something else, or read what was not there at this one."""
        if self.operations != later.operations:
            pairs = zip(self.operations, later.operations, strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), "their number")
            raise NotCapturable(f"operations differ from run to run: {first}")
        new = [tensor for address, tensor in later.outside.items() if address not in self.outside]
        if new:
            raise NotCapturable(f"reads a tensor of {tuple(new[0].shape)} that was not there when it was captured")


def linted_loops(setattr_: Callable[[Any, str, Any], None]) -> dict[Any, int]:
    """Puts every captured function under the lint, each against its own first run; counts the runs of each.

    `setattr_` is that of pytest's monkeypatch.
    """
    first: dict[Any, CaptureLint] = {}
    runs: dict[Any, int] = {}
    for kind in LOOPS:

        def run(self: Any, real: Callable[[Any], None] = kind.run) -> None:
            lint = CaptureLint()
            with lint:
                real(self)
            first.setdefault(self, lint).require_same(lint)
            runs[self] = runs.get(self, 0) + 1

        setattr_(kind, "run", run)
    return runs


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
