"""Attention over rectangles of pieces, and the merge of what pieces of one request gave."""

import torch
import torch.nn.functional as F

from spinbench.runtime.forward.tile import MergePlan, Tile, TiledRows


def tiled_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tiled: TiledRows, scale: float
) -> torch.Tensor:
    """Run a plan's rectangles one after the other. Returns [1, rows, heads, head_dim].

    `query` is [1, heads, rows, head_dim]; `keys` and `values` [slots, kv_heads, head_dim] are a layer's pool, of which
    no more is copied than one rectangle's.
    """
    rows = query[0].transpose(0, 1)  # [rows, heads, head_dim]
    if tiled.merge is not None:
        return _merged(rows, keys, values, tiled, tiled.merge, scale)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    for tile in tiled.tiles:
        q, k, v = _tile_inputs(rows, keys, values, tiled, tile)
        part = _as_rows(F.scaled_dot_product_attention(q, k, v, attn_mask=tile.mask, scale=scale), rows.shape[1], tile)
        if tile.query_rows is None:
            return part.reshape(1, *rows.shape)
        part = part.reshape(-1, *rows.shape[1:])
        if tile.own is None:
            out.index_copy_(0, tile.query_rows, part)
        else:
            out.index_copy_(0, tile.query_rows[tile.own], part[tile.own])
    return out[None]


def _tile_inputs(
    rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tiled: TiledRows, tile: Tile
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries [pieces, kv_heads, share * query_width, head_dim]; keys, values [pieces, kv_heads, key_width, head_dim].

    The heads that share a key head become further rows of it: grouped-query attention without repeating the keys.
    """
    (_, heads, head_dim), kv_heads = rows.shape, keys.shape[1]
    q = rows if tile.query_rows is None else rows.index_select(0, tile.query_rows)
    q = q.view(tile.num_pieces, tile.query_width, heads, head_dim).transpose(1, 2)
    q = q.reshape(tile.num_pieces, kv_heads, heads // kv_heads * tile.query_width, head_dim)
    k, v = (
        _tile_keys(pool, tile, room).view(tile.num_pieces, tile.key_width, kv_heads, head_dim).transpose(1, 2)
        for pool, room in ((keys, tiled.gathered[0]), (values, tiled.gathered[1]))
    )
    return q, k, v


def _tile_keys(pool: torch.Tensor, tile: Tile, room: torch.Tensor) -> torch.Tensor:
    """[pieces * key_width, kv_heads, head_dim]: where they lie, or copied into `room`."""
    if isinstance(tile.key_slots, slice):
        return pool[tile.key_slots]
    return torch.index_select(pool, 0, tile.key_slots, out=room[: len(tile.key_slots)])


def _as_rows(part: torch.Tensor, heads: int, tile: Tile) -> torch.Tensor:
    """[pieces, query_width, heads, head_dim] of attention's result."""
    return part.reshape(tile.num_pieces, heads, tile.query_width, -1).transpose(1, 2)


def _merged(
    rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tiled: TiledRows, merge: MergePlan, scale: float
) -> torch.Tensor:
    """Each request's pieces weighted by their share of its softmax's denominator.

    With row maximum m_r, numerator num_r and denominator den_r of piece r, a request's result is
    sum_r e^(m_r - m) num_r / sum_r e^(m_r - m) den_r, m the largest m_r. A kernel gives num_r / den_r and
    s_r = m_r + ln den_r, so that the weights are the softmax of s_r over the request's pieces: over all pieces, with
    minus infinity where the indicator (request x piece) is 0.
    """
    heads, head_dim = rows.shape[1:]
    # [pieces of all tiles, heads * query_width, head_dim] and [pieces, heads * query_width]
    parts, sums = [], []
    for tile in tiled.tiles:
        q, k, v = _tile_inputs(rows, keys, values, tiled, tile)
        part, log_sum = partial_attention(q, k, v, tile.mask, scale)
        if tile.sees_nothing is not None:
            # a row that sees no key of a piece has no part in it; what kernels say to such a row differs
            log_sum = log_sum.masked_fill(tile.sees_nothing, float("-inf"))
        parts.append(part.reshape(tile.num_pieces, -1, head_dim))
        sums.append(log_sum.reshape(tile.num_pieces, -1))
        del q, k, v, part, log_sum
    part, log_sum = parts[0], sums[0]
    if merge.order is not None:
        part, log_sum = torch.cat(parts)[merge.order], torch.cat(sums)[merge.order]
    merged = []
    for group in merge.groups:
        weights = (log_sum[group.pieces].t()[:, None] + group.indicator).softmax(-1)  # [rows, requests, pieces]
        results = part[group.pieces].to(weights.dtype).transpose(0, 1)  # [rows, pieces, head_dim]
        merged.append(torch.bmm(weights, results).to(part.dtype))
    out = merged[0] if len(merged) == 1 else torch.cat(merged, 1)
    out = out.view(heads, merge.query_width, -1, head_dim).permute(2, 1, 0, 3).reshape(-1, heads, head_dim)
    return (out if merge.own is None else out[merge.own])[None]


def partial_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention and the logarithm of its softmax's denominator, [batch, heads, rows, head_dim], [batch, heads, rows].

    A row whose mask hides all keys gives zeros or anything finite.
    """
    if q.device.type == "cpu":
        # what scaled_dot_product_attention itself calls on a CPU, and which tells the denominator
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=mask, scale=scale)
    return _partial_attention_by_parts(q, k, v, mask, scale)


def _partial_attention_by_parts(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row maximum, numerator and denominator one by one, sums in float32 or better; for any device."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = torch.matmul(q, k.transpose(-1, -2)).to(wide) * scale
    if mask is not None:
        scores = scores + mask
    row_max = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(wide).min)
    weights = (scores - row_max).exp_()
    denominator = weights.sum(-1)
    numerator = torch.matmul(weights.to(v.dtype), v)
    safe = denominator.clamp_min(torch.finfo(wide).tiny)
    return (numerator / safe[..., None]).to(q.dtype), row_max[..., 0] + safe.log()
