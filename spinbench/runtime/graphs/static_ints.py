"""Integers that a captured function reads: one buffer on the device, filled in one transfer."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from spinbench.runtime.kernels.kernel_rows import packed

Int32Array = npt.NDArray[np.int32]


class StaticInts:
    """Named int32 tables that keep their places; written on the host, then uploaded together."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        parts, size = packed({name: int(np.prod(shape)) for name, shape in shapes.items()})
        # page-locked, so that the transfer is queued behind what the device does and nobody waits for it
        self._host = torch.zeros(size, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device = torch.zeros_like(self._host, device=device)
        self._on_host: dict[str, Int32Array] = {}
        self._on_device: dict[str, torch.Tensor] = {}
        self._sent: torch.cuda.Event | None = None
        flat = self._host.numpy()
        for name, shape in shapes.items():
            self._on_host[name] = flat[parts[name]].reshape(shape)
            self._on_device[name] = self._device[parts[name]].view(shape)

    def begin(self) -> None:
        """Before anything is written: wait until what was uploaded before has left the host's memory.

        That lies before the replay that read it, so the host waits only where it is a whole job ahead of the device.
        """
        if self._sent is not None:
            self._sent.synchronize()

    def put(self, name: str, values: npt.NDArray[np.integer], padding: int = 0) -> None:
        """Write the first rows of a table, and `padding` into its others."""
        table = self._on_host[name]
        table[: len(values)] = values
        table[len(values) :] = padding

    def corner(self, name: str, values: npt.NDArray[np.integer]) -> None:
        """Write the first rows and columns of a table; what lies beside them is never read."""
        self._on_host[name][: values.shape[0], : values.shape[1]] = values

    def __getitem__(self, name: str) -> torch.Tensor:
        """The table on the device: always the same tensor."""
        return self._on_device[name]

    def upload(self) -> None:
        """Bring all tables to the device, behind what it has to do; `begin` waits for that."""
        self._device.copy_(self._host, non_blocking=True)
        if self._device.is_cuda:
            self._sent = torch.cuda.Event()
            self._sent.record()
