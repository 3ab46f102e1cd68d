"""The memory behind the KV blocks of one model."""

from dataclasses import dataclass, replace

import torch
from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one token's KV takes in one model."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> "KvShape":
        """Read from a model's config; works for configs with and without grouped-query attention."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
        return cls(text.num_hidden_layers, heads, kv_heads, head_dim)

    def share(self, num_shares: int) -> "KvShape":
        """What it takes in each of so many processes that have the heads between them."""
        return replace(self, num_heads=self.num_heads // num_shares, num_kv_heads=self.num_kv_heads // num_shares)

    @property
    def heads_per_kv_head(self) -> int:
        """Query heads that share one key head."""
        return self.num_heads // self.num_kv_heads

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Keys and values of all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * dtype.itemsize


class KvPool:
    """Keys and values of one model, [slots, kv_heads, head_dim] per layer.

    Slot-major, so that a request whose blocks are consecutive is a view, and a new token's keys are one row. One extra
    slot at the end takes the writes of padding rows.
    """

    def __init__(self, shape: KvShape, num_slots: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        size = (shape.num_layers, num_slots + 1, shape.num_kv_heads, shape.head_dim)
        self.keys = torch.zeros(size, dtype=dtype, device=device)
        self.values = torch.zeros(size, dtype=dtype, device=device)
        self.null_slot = num_slots

    def move(self, source: torch.Tensor, final: torch.Tensor) -> None:
        """Write the KV of the slots `source` into the slots `final`, int64 [slots] each; all are read first.

        So nothing is moved where memory runs out.

        What moves is only what was accepted off a tree's first branch: per request and round as many tokens as the tree
        is deep at the most, of all layers in one gather and one scatter.
        """
        keys, values = (pool.index_select(1, source) for pool in (self.keys, self.values))
        self.keys.index_copy_(1, final, keys)
        self.values.index_copy_(1, final, values)
