"""What the attention of a layout takes besides the KV cache, in bytes."""

from dataclasses import dataclass

from spinbench.control.layout.plan import LayoutPlan

INDEX_BYTES = 8
"""Of a slot number."""
WEIGHT_BYTES = 4
"""Of a value in the merge, unless values are wider."""
MERGED_TOGETHER = 16
"""Requests whose pieces are merged by one product of matrices: its zeros grow with their square."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What one token's query, key and value take in one layer."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_bytes: int

    @property
    def query_bytes(self) -> int:
        """Of one query row."""
        return self.num_heads * self.head_dim * self.value_bytes

    @property
    def kv_bytes(self) -> int:
        """Of one key with its value."""
        return 2 * self.num_kv_heads * self.head_dim * self.value_bytes


def touched_bytes(plan: LayoutPlan, shape: AttentionShape) -> int:
    """Bytes of queries, keys and values that one layer's attention reads, copies and padding included."""
    return plan.query_tokens * shape.query_bytes + plan.key_tokens * shape.kv_bytes


def peak_bytes(plan: LayoutPlan, shape: AttentionShape) -> int:
    """Most bytes that one layer's attention holds at once beside the cache and its own inputs.

    Rectangles run one after the other in the same room for keys and values; masks and slot numbers are made for all of
    them once a pass. Read in place (packed), only the result counts.
    """
    if not plan.rectangles:
        return plan.query_tokens * shape.query_bytes
    share = shape.num_heads // shape.num_kv_heads
    cells = plan.useful_cells + plan.padded_cells
    masks = cells * share * shape.value_bytes + plan.key_tokens * INDEX_BYTES
    # a copy of its queries and a result for each row; where pieces are merged, all results wait for the last
    largest = max(rectangle.num_query_tokens for rectangle in plan.rectangles)
    results = plan.query_tokens if plan.merged_query_tokens else largest
    queries = largest * shape.query_bytes
    room = plan.peak_key_tokens * shape.kv_bytes + masks + results * shape.query_bytes
    return room + max(queries, plan.merged_query_tokens * _merge_bytes(shape))


def _merge_bytes(shape: AttentionShape) -> int:
    """Of a piece's query row: its result widened, if it is narrower than the weights; scores and weights."""
    weight_bytes = max(WEIGHT_BYTES, shape.value_bytes)
    widened = shape.head_dim * weight_bytes if shape.value_bytes < weight_bytes else 0
    return shape.num_heads * (widened + 2 * MERGED_TOGETHER * weight_bytes)
