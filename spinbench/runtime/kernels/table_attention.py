"""Attention by tables: who attends, and the tables of one pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from spinbench.runtime.kernels.kernel_rows import KernelRows

Attend = Callable[
    [
        torch.Tensor,
        torch.Tensor,
        torch.Tensor,
        torch.Tensor,
        torch.Tensor,
        KernelRows,
        int,
        float,
    ],
    torch.Tensor,
]
"""Query, key, value, the layer's keys and values, tables, block size, scale; see `triton_attention`."""
PROGRAMS_PER_PROCESSOR = 4
"""Programs that a processor of the device needs to hide what each waits for."""


@dataclass(frozen=True, slots=True)
class TableAttention:
    """How a model attends by tables."""

    attend: Attend
    wanted_programs: int
    """Contexts of the packed layout are cut until so many programs run, which changes their results by rounding only;
    0 = never."""

    @classmethod
    def on(cls, device: torch.device, attend: Attend) -> "TableAttention":
        """With as many programs as the device needs."""
        wanted = 0
        if device.type == "cuda":
            wanted = PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
        return cls(attend, wanted)


@dataclass(frozen=True, slots=True, eq=False)
class TableBatch:
    """The tables of one pass, and who reads them."""

    rows: KernelRows
    attention: TableAttention
    block_size: int
    """Tokens of a block of the pool."""
