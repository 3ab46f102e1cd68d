"""What the attention kernels compute, in plain torch on the same tables: for any device and type, and for few requests.

Contexts are copied out of the pool for every row, so this is for proofs on tiny models, not for speed.
"""

import torch

from spinbench.runtime.kernels.kernel_rows import BITS, KernelRows


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: KernelRows,
    block_size: int,
    scale: float,
) -> torch.Tensor:
    """As `triton_attention`, of the rows' masks alone: tiles and pieces change nothing."""
    write_slots = rows.write_slots.long()
    keys.index_copy_(0, write_slots, key[0].transpose(0, 1))
    values.index_copy_(0, write_slots, value[0].transpose(0, 1))
    slots = rows.blocks.long()[:, :, None] * block_size + torch.arange(block_size, device=query.device)
    slots = slots.flatten(1).clamp(max=len(keys) - 1)[rows.requests.long()]  # [rows, most keys]
    k, v = keys[slots], values[slots]  # [rows, most keys, kv_heads, head_dim]
    q = query[0].transpose(0, 1)  # [rows, heads, head_dim]
    grouped = q.reshape(len(q), k.shape[2], -1, q.shape[-1])
    scores = torch.einsum("rgsd,rkgd->rgsk", grouped, k) * scale
    weights = scores.masked_fill(~seen_keys(rows, slots.shape[1])[:, None, None], float("-inf")).softmax(-1)
    return torch.einsum("rgsk,rkgd->rgsd", weights, v).reshape(1, *q.shape)


def seen_keys(rows: KernelRows, num_keys: int) -> torch.Tensor:
    """Which of the first `num_keys` keys each row sees, bool [rows, num_keys]."""
    at = torch.arange(num_keys, device=rows.limits.device)
    limits = rows.limits.long()[:, None]
    seen = at < limits
    num_words = rows.bits.shape[1]
    if num_words:
        behind = at - limits
        has_bit = (behind >= 0) & (behind < num_words * BITS)
        place = behind.clamp(0, num_words * BITS - 1)
        word = rows.bits.long().gather(1, place // BITS)
        seen = seen | (has_bit & ((word >> (place % BITS)) & 1).bool())
    return seen
