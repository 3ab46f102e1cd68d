"""One layer's attention by itself: inputs, pool, and a call as models make it."""

from dataclasses import dataclass

import torch

from spinbench.runtime.forward.attention import paged_attention
from spinbench.runtime.forward.paged_batch import PagedBatch
from spinbench.runtime.kv.kv_pool import KvPool, KvShape
from spinbench.runtime.kv.slot_table import SlotTable


class _Layer(torch.nn.Module):
    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx


@dataclass(frozen=True, eq=False)
class AttentionLayer:
    """Random queries, keys and values over a pool of random contexts."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    pool: KvPool

    @classmethod
    def made(
        cls, shape: KvShape, slots: SlotTable, num_rows: int, dtype: torch.dtype, device: torch.device
    ) -> "AttentionLayer":
        """With `num_rows` new rows; the contexts are already in the pool."""
        generator = torch.Generator(device).manual_seed(0)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float32, device=device).to(dtype)

        pool = KvPool(shape, slots.num_slots, dtype, device)
        pool.keys.copy_(normal(*pool.keys.shape))
        pool.values.copy_(normal(*pool.values.shape))
        return cls(
            normal(1, num_rows, shape.num_heads, shape.head_dim).transpose(1, 2),
            normal(1, num_rows, shape.num_kv_heads, shape.head_dim).transpose(1, 2),
            normal(1, num_rows, shape.num_kv_heads, shape.head_dim).transpose(1, 2),
            pool,
        )

    def in_float64(self) -> "AttentionLayer":
        """The same numbers."""
        pool = KvPool(self.pool.shape, self.pool.null_slot, torch.float64, self.query.device)
        pool.keys.copy_(self.pool.keys)
        pool.values.copy_(self.pool.values)
        return AttentionLayer(self.query.double(), self.key.double(), self.value.double(), pool)

    def attend(self, batch: PagedBatch, layer: int = 0) -> torch.Tensor:
        """[1, rows, heads, head_dim], by the keys and values of this layer of the pool."""
        return paged_attention(_Layer(layer), self.query, self.key, self.value, None, paged=batch)[0]
