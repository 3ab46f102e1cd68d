"""Launches the attention kernels: which shapes, types and tiles, and where results go."""

import math
from typing import Any, cast

import torch
import triton
import triton.language as tl
from triton import knobs

from spinbench.runtime.kernels.attention_kernel import attend, merge, store_kv
from spinbench.runtime.kernels.kernel_rows import KernelRows
from spinbench.runtime.kernels.tile_keys import num_warps, tile_keys

LOG2_E = math.log2(math.e)
# what a launch takes besides a kernel's own parameters is known to Triton alone
STORE_KV, ATTEND, MERGE = (cast(Any, kernel) for kernel in (store_kv, attend, merge))


def triton_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: KernelRows,
    block_size: int,
    scale: float,
) -> torch.Tensor:
    """Store the new keys and values, attend, and merge what was cut. Returns [1, rows, heads, head_dim].

    `query` is [1, heads, rows, head_dim], `key` and `value` [1, kv_heads, rows, head_dim]; `keys` and `values` [slots,
    kv_heads, head_dim] are a layer's pool.
    """
    query, key, value = (_rows_in_memory(tensor[0]) for tensor in (query, key, value))
    heads, num_rows, head_dim = query.shape
    kv_heads = key.shape[0]
    padded_dim = max(16, triton.next_power_of_2(head_dim))
    wide = torch.promote_types(query.dtype, torch.float32)
    tl_wide = tl.float64 if wide == torch.float64 else tl.float32
    STORE_KV[(num_rows,)](
        key,
        value,
        keys,
        values,
        rows.write_slots,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        keys.stride(0),
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        PADDED=triton.next_power_of_2(kv_heads * head_dim),
        enable_fp_fusion=True,
    )
    out = query.new_empty(num_rows, heads, head_dim)
    split = rows.num_partials > 0
    partial = torch.empty(rows.num_partials, heads, head_dim, dtype=wide, device=out.device) if split else out
    partial_log = torch.empty(rows.num_partials, heads, dtype=wide, device=out.device) if split else out
    ATTEND[(len(rows.tiles), kv_heads)](
        query,
        keys,
        values,
        out,
        partial,
        partial_log,
        rows.tiles,
        rows.limits,
        rows.blocks,
        rows.bits,
        scale * LOG2_E,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        rows.blocks.stride(0),
        heads,
        SHARE=heads // kv_heads,
        HEAD_DIM=head_dim,
        PADDED_DIM=padded_dim,
        BLOCK_SIZE=block_size,
        TILE_ROWS=rows.tile_rows,
        TILE_KEYS=tile_keys(padded_dim, query.element_size()),
        WORDS=rows.bits.shape[1],
        SPLIT=split,
        WIDE=tl_wide,
        PRECISION="ieee",
        WIDEN=knobs.runtime.interpret and query.dtype == torch.bfloat16,
        num_warps=num_warps(padded_dim, query.element_size(), rows.tile_rows),
        num_stages=2,
        enable_fp_fusion=True,
    )
    if split:
        MERGE[(len(rows.merges), heads)](
            out,
            partial,
            partial_log,
            rows.merges,
            heads,
            HEAD_DIM=head_dim,
            PADDED_DIM=padded_dim,
            WIDE=tl_wide,
            num_warps=1,
            enable_fp_fusion=True,
        )
    return out[None]


def _rows_in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """[heads, rows, head_dim] with each row's head in consecutive places; other strides are as they come."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
