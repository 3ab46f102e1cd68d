"""Goes the way of a launch up to the machine code, for a GPU that is not there, and counts what was compiled.

A process of its own: Triton is told that this is an sm_90, and that every launch is a warm-up.
"""

import json
from typing import Any

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from spinbench.control.jobs.job import TokenSpans
from spinbench.runtime.forward.kernel_batch import TableSetting, causal_rows
from spinbench.runtime.kernels import attention_kernel
from spinbench.runtime.kernels.kernel_rows import to_device
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kernels.triton_attention import triton_attention
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.kv.slot_table import SlotTable

SHAPE, BLOCK_SIZE = KvShape(1, 4, 2, 32), 16
REAL = JITFunction.run


class Described:
    """What Triton asks a driver before it compiles."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def warmed_up(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
    """A launch without its last step."""
    return REAL(self, *arguments, grid=grid, warmup=True, **options)


def attend(contexts: list[int], num_rows: int, wanted_programs: int) -> None:
    """One pass, of bfloat16."""
    stop = np.array(contexts)
    slots = SlotTable(int((-(-stop // BLOCK_SIZE)).sum()), BLOCK_SIZE)
    for row, length in enumerate(contexts):
        slots.hold(row, length, length)
    spans = TokenSpans(np.arange(len(stop)), stop - num_rows, stop)
    setting = TableSetting(TableAttention(triton_attention, wanted_programs), SHAPE, BLOCK_SIZE)
    tables = to_device(causal_rows(spans, slots, setting), torch.device("cpu"))
    count = num_rows * len(contexts)
    query = torch.zeros(1, count, SHAPE.num_heads, SHAPE.head_dim, dtype=torch.bfloat16).transpose(1, 2)
    key, value, *pool = (
        torch.zeros(1, count, SHAPE.num_kv_heads, SHAPE.head_dim, dtype=torch.bfloat16).transpose(1, 2)
        for _ in range(4)
    )
    keys, values = (part.new_zeros(slots.num_slots + 1, SHAPE.num_kv_heads, SHAPE.head_dim) for part in pool)
    triton_attention(query, key, value, keys, values, tables, BLOCK_SIZE, 0.1)


def main() -> None:
    """Passes of many sizes: how many variants of each kernel they take."""
    driver.set_active(Described())
    JITFunction.run = warmed_up  # type: ignore[method-assign]
    for contexts in ([5], [16], [17, 33], [300], [9, 1025, 64], [40] * 7, [256] * 16):
        for wanted_programs in (0, 64):
            attend(contexts, 3, wanted_programs)
    kernels = {name: getattr(attention_kernel, name) for name in ("store_kv", "attend", "merge")}
    print(json.dumps({name: len(kernel.device_caches[0][0]) for name, kernel in kernels.items()}))


if __name__ == "__main__":
    main()
