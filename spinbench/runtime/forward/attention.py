"""Attention over the paged KV pool, registered with transformers, so that any Hugging Face causal LM runs unchanged."""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

from spinbench.errors import UserError
from spinbench.runtime.forward.paged_batch import PagedBatch, RowGroup
from spinbench.runtime.forward.tiled_attention import tiled_attention

ATTENTION_NAME = "spinbench_paged"


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    paged: PagedBatch,
    **extras: object,
) -> tuple[torch.Tensor, None]:
    """Store the new keys and values in the pool, then attend.

    `query` is [1, heads, rows, head_dim], `key` and `value` [1, kv_heads, rows, head_dim]; the rows of all requests lie
    behind each other. Returns [1, rows, heads, head_dim]. Raises UserError for a model whose attention is of another
    kind: transformers hands over what is special about it in `extras`.
    """
    _refuse_other_attention(paged, extras)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    keys, values = paged.pool.keys[layer], paged.pool.values[layer]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if paged.tables is not None:
        rows, size = paged.tables.rows, paged.tables.block_size
        return paged.tables.attention.attend(query, key, value, keys, values, rows, size, scale), None
    keys.index_copy_(0, paged.write_slots, key[0].transpose(0, 1))
    values.index_copy_(0, paged.write_slots, value[0].transpose(0, 1))
    if paged.tiled is not None:
        return tiled_attention(query, keys, values, paged.tiled, scale), None
    out = torch.empty_like(query[0].transpose(0, 1), memory_format=torch.contiguous_format)  # [rows, heads, head_dim]
    for group in paged.groups:
        out[group.start : group.stop] = _one_request(query, keys, values, group, scale)
    return out[None], None


def _refuse_other_attention(paged: PagedBatch, extras: dict[str, object]) -> None:
    for name in ("softcap", "s_aux", "position_bias"):
        if extras.get(name) is not None:
            raise UserError(f"this model's attention uses {name}, which the paged attention does not compute")
    window = extras.get("sliding_window")
    if isinstance(window, int) and paged.longest_context > window:
        raise UserError(
            f"a context of {paged.longest_context} tokens exceeds this model's sliding window of {window}, which the "
            "paged attention does not apply; shorten prompts or max_new_tokens"
        )


def _one_request(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, group: RowGroup, scale: float
) -> torch.Tensor:
    """Attention of one request's rows, [rows, heads, head_dim]."""
    _, heads, _, head_dim = query.shape
    rows = group.stop - group.start
    if group.key_slots is None:
        own = slice(group.first_slot, group.first_slot + group.num_keys)
        k, v = keys[own], values[own]
    else:
        k, v = keys.index_select(0, group.key_slots), values.index_select(0, group.key_slots)
    k, v = k.transpose(0, 1)[None], v.transpose(0, 1)[None]  # [1, kv_heads, num_keys, head_dim]
    q = query[:, :, group.start : group.stop]
    if rows > 1 and group.mask is None:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        return out[0].transpose(0, 1)
    # The heads that share a key head become further rows of it: grouped-query attention without repeating the keys.
    kv_heads = k.shape[1]
    share = heads // kv_heads
    out = F.scaled_dot_product_attention(
        q.reshape(1, kv_heads, share * rows, head_dim), k, v, attn_mask=group.mask, scale=scale
    )
    return out.reshape(heads, rows, head_dim).transpose(0, 1)


def use_paged_attention(model: PreTrainedModel) -> None:
    """Make `model` attend through the pool; its calls then need `paged=` and `use_cache=False`.

    No mask function is registered for it, so transformers makes no mask, nor looks into the positions for packed
    sequences either, which would make the host wait for the device in every pass (`masking_utils`). Nor does a model
    that has a padding token look whether the tokens hold it (`warn_if_padding_and_no_attention_mask`), which would do
    the same, and which no CUDA graph could hold: nothing is padded here.
    """
    AttentionInterface.register(ATTENTION_NAME, paged_attention)
    model.set_attn_implementation(ATTENTION_NAME)
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config.pad_token_id = None
