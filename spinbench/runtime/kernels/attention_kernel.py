"""Triton kernels: keys and values into the paged pool, attention over it, the merge of pieces.

A program of `attend` serves one tile: some query rows of one request, with all query heads that share a key head, over
one piece of its context. Scores are kept in the base-2 logarithm.

Triton compiles a kernel anew for an integer that is 1, or a multiple of 16, or neither, and for an address that is a
multiple of 16 bytes or not. What changes from pass to pass is therefore not specialised on, and tables begin at
multiples of 16 bytes (`kernel_rows.packed`): otherwise the first passes of a run would stop for a compiler again and
again. Whatever is multiplied by a stride has 64 bits: a pool, and the rows of a long prefill, may hold more than 2^31
numbers.
"""

# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

import triton
import triton.language as tl


@triton.jit
def store_kv(
    key,
    value,
    keys,
    values,
    write_slots,
    key_head_stride,
    key_row_stride,
    value_head_stride,
    value_row_stride,
    slot_stride,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Copy one row's key and value, [kv_heads, head_dim] each, to its slot; `PADDED` >= KV_HEADS * HEAD_DIM."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(write_slots + row).to(tl.int64)
    at = tl.arange(0, PADDED)
    own = at < KV_HEADS * HEAD_DIM
    head, dim = (at // HEAD_DIM).to(tl.int64), at % HEAD_DIM
    tl.store(
        keys + slot * slot_stride + at,
        tl.load(key + head * key_head_stride + row * key_row_stride + dim, mask=own),
        mask=own,
    )
    tl.store(
        values + slot * slot_stride + at,
        tl.load(value + head * value_head_stride + row * value_row_stride + dim, mask=own),
        mask=own,
    )


@triton.jit(do_not_specialize=["blocks_stride"])
def attend(
    query,
    keys,
    values,
    out,
    partial,
    partial_log,
    tiles,
    limits,
    blocks,
    bits,
    scale,
    query_head_stride,
    query_row_stride,
    slot_stride,
    blocks_stride,
    num_heads,
    SHARE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_KEYS: tl.constexpr,
    WORDS: tl.constexpr,
    SPLIT: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Attention of one tile and key head into `out` [rows, heads, head_dim], or into a partial result.

    `scale` has log2(e) in it. `WIDE` is the type of sums; `WIDEN` takes factors to it as well, for Triton's
    interpreter, which cannot multiply bfloat16. A partial result is normalised; its `partial_log` is the
    base-2 logarithm of its softmax's denominator, minus infinity for a row that sees no key of the piece.
    """
    tile = tiles + tl.program_id(0) * 6
    kv_head = tl.program_id(1)
    request, first_row, num_rows = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    first_key, stop_key, first_partial = tl.load(tile + 3), tl.load(tile + 4), tl.load(tile + 5)

    place = tl.arange(0, TILE_ROWS)
    row_in_tile = place // SHARE
    is_row = row_in_tile < num_rows
    row = (first_row + row_in_tile).to(tl.int64)
    head = (kv_head * SHARE + place % SHARE).to(tl.int64)
    dim = tl.arange(0, PADDED_DIM)
    is_dim = dim < HEAD_DIM
    own = is_row[:, None] & is_dim[None, :]
    q = tl.load(
        query + (head * query_head_stride + row * query_row_stride)[:, None] + dim[None, :], mask=own, other=0.0
    )
    q_dot = q.to(WIDE) if WIDEN else q
    limit = tl.load(limits + row, mask=is_row, other=0)

    most = tl.full([TILE_ROWS], float("-inf"), WIDE)
    total = tl.zeros([TILE_ROWS], WIDE)
    result = tl.zeros([TILE_ROWS, PADDED_DIM], WIDE)
    for start in range(first_key, stop_key, TILE_KEYS):
        at = start + tl.arange(0, TILE_KEYS)
        in_piece = at < stop_key
        block = tl.load(blocks + request * blocks_stride + at // BLOCK_SIZE, mask=in_piece, other=0)
        slot = (block * BLOCK_SIZE + at % BLOCK_SIZE).to(tl.int64)
        where = (slot * slot_stride + kv_head * HEAD_DIM)[:, None] + dim[None, :]
        is_key = in_piece[:, None] & is_dim[None, :]
        k = tl.load(keys + where, mask=is_key, other=0.0)
        if TILE_ROWS == 1:
            scores = tl.sum(q.to(WIDE) * k.to(WIDE), 1)[None, :]
        else:
            k_dot = k.to(WIDE) if WIDEN else k
            scores = tl.dot(q_dot, tl.trans(k_dot), input_precision=PRECISION, out_dtype=WIDE)
        seen = at[None, :] < limit[:, None]
        if WORDS > 0:
            behind = at[None, :] - limit[:, None]
            has_bit = (behind >= 0) & (behind < WORDS * 32) & is_row[:, None]
            word = tl.load(bits + row[:, None] * WORDS + behind // 32, mask=has_bit, other=0)
            seen = seen | (((word >> (behind & 31)) & 1) != 0)
        scores = tl.where(seen & in_piece[None, :], scores * scale, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        # a row that saw no key yet has no maximum: any finite one does
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        fade = tl.exp2(most - base)
        total = total * fade + tl.sum(weights, 1)
        result = result * fade[:, None]
        v = tl.load(values + where, mask=is_key, other=0.0)
        if TILE_ROWS == 1:
            result += tl.sum(tl.trans(weights) * v.to(WIDE), 0)[None, :]
        else:
            narrow = weights.to(v.dtype)
            left, right = (narrow.to(WIDE), v.to(WIDE)) if WIDEN else (narrow, v)
            result = tl.dot(left, right, result, input_precision=PRECISION, out_dtype=WIDE)
        most = higher

    safe = tl.where(total > 0, total, 1.0)
    result = result / safe[:, None]
    if SPLIT:
        is_whole = first_partial + 0 * place < 0
        tl.store(
            out + (row * num_heads + head)[:, None] * HEAD_DIM + dim[None, :],
            result.to(out.dtype.element_ty),
            mask=own & is_whole[:, None],
        )
        part = (first_partial + row_in_tile).to(tl.int64) * num_heads + head
        tl.store(partial + part[:, None] * HEAD_DIM + dim[None, :], result, mask=own & ~is_whole[:, None])
        log = tl.where(total > 0, most + tl.log2(safe), float("-inf"))
        tl.store(partial_log + part, log, mask=is_row & ~is_whole)
    else:
        tl.store(
            out + (row * num_heads + head)[:, None] * HEAD_DIM + dim[None, :], result.to(out.dtype.element_ty), mask=own
        )


@triton.jit
def merge(
    out,
    partial,
    partial_log,
    merges,
    num_heads,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The pieces of one row and head, each weighted by its share of the softmax's denominator; no piece = no row."""
    entry = merges + tl.program_id(0) * 4
    head = tl.program_id(1)
    row, first = tl.load(entry).to(tl.int64), tl.load(entry + 1).to(tl.int64)
    step, count = tl.load(entry + 2), tl.load(entry + 3)
    dim = tl.arange(0, PADDED_DIM)
    is_dim = dim < HEAD_DIM
    most = tl.full([1], float("-inf"), WIDE)
    total = tl.zeros([1], WIDE)
    result = tl.zeros([PADDED_DIM], WIDE)
    for piece in range(count):
        part = (first + piece * step) * num_heads + head
        log = tl.load(partial_log + part)
        higher = tl.maximum(most, log)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        fade, weight = tl.exp2(most - base), tl.exp2(log - base)
        total = total * fade + weight
        result = result * fade + weight * tl.load(partial + part * HEAD_DIM + dim, mask=is_dim, other=0.0)
        most = higher
    result = result / tl.where(total > 0, total, 1.0)
    tl.store(
        out + (row * num_heads + head) * HEAD_DIM + dim,
        result.to(out.dtype.element_ty),
        mask=is_dim & (count + 0 * dim > 0),
    )
