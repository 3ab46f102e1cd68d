"""Pieces merged give what whole contexts give, and no more memory is taken than by padding."""

import numpy as np
import pytest
import torch

from benchmarks.layout_timing import AttentionBench, verify_spans
from spinbench.control.cost_curve import RectangleAttention
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.decomposed import Cut, DecomposedLayout, equal_pieces, unequal_pieces
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.memory import MERGED_TOGETHER, AttentionShape, peak_bytes
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.layout.protocol import LayoutSetting
from spinbench.runtime.forward.tiled_attention import _partial_attention_by_parts, partial_attention
from spinbench.runtime.kv.kv_pool import KvShape

SHAPE = KvShape(num_layers=1, num_heads=6, num_kv_heads=2, head_dim=8)
CPU = torch.device("cpu")


def attend(bench: AttentionBench, spans: TokenSpans, plan: LayoutPlan, query: torch.Tensor) -> torch.Tensor:
    """[requests * rows, heads, head_dim] of requests with equally many rows."""
    return bench.run(spans, bench.slots_of(spans.stop), plan, query=query)[0]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("rows", [1, 4])
def test_decomposed_equals_padded_to_rounding(dtype, tolerance, rows):
    # more requests than are merged together, in one to many pieces, of lengths in no order
    contexts = rows + np.random.default_rng(0).integers(1, 90, MERGED_TOGETHER + 5)
    bench = AttentionBench(SHAPE, int(contexts.sum()) + 16 * len(contexts), dtype, CPU)
    spans, queries = verify_spans(contexts, rows), np.full(len(contexts), rows)
    query = torch.randn(1, SHAPE.num_heads, rows * len(contexts), SHAPE.head_dim, dtype=dtype)
    expected = attend(bench, spans, PackedLayout().plan(queries, contexts), query)
    plans = [PaddedLayout().plan(queries, contexts), GroupedLayout(window_tokens=7).plan(queries, contexts)]
    plans += [equal_pieces(queries, contexts, width) for width in (3, 17, 64)]
    plans += [unequal_pieces(queries, contexts, Cut(width, 5)) for width in (3, 17, 64)]
    for plan in plans:
        assert (attend(bench, spans, plan, query) - expected).abs().max() < tolerance


def test_scores_far_apart_do_not_overflow():
    contexts, rows = np.array([40, 11]), 2
    bench = AttentionBench(SHAPE, 128, torch.float32, CPU)
    bench.pool.keys.mul_(1e3)
    spans, queries = verify_spans(contexts, rows), np.full(2, rows)
    query = torch.randn(1, SHAPE.num_heads, 4, SHAPE.head_dim)
    expected = attend(bench, spans, PaddedLayout().plan(queries, contexts), query)
    merged = attend(bench, spans, equal_pieces(queries, contexts, 6), query)
    assert merged.isfinite().all()
    assert torch.allclose(merged, expected, atol=1e-4)


def test_maximum_numerator_and_denominator_one_by_one_give_what_the_kernel_gives():
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, size, 8, dtype=torch.float64) for size in (5, 12, 12))
    mask = torch.zeros(3, 1, 5, 12, dtype=torch.float64)
    mask[0, :, :, 7:] = mask[1, :, 0] = float("-inf")  # a padded piece; a row that sees nothing
    for hidden in (None, mask):
        kernel, its_sum = partial_attention(q, k, v, hidden, 0.3)
        ours, our_sum = _partial_attention_by_parts(q, k, v, hidden, 0.3)
        seeing = torch.ones(3, 2, 5, dtype=torch.bool)
        if hidden is not None:
            seeing[1, :, 0] = False
        assert (kernel - ours)[seeing].abs().max() < 1e-12
        assert (its_sum - our_sum)[seeing].abs().max() < 1e-12
        assert ours.isfinite().all()


@pytest.mark.parametrize("pieces", ["equal", "unequal"])
def test_measured_memory_is_what_was_counted_and_never_more_than_padded(pieces):
    law = RectangleAttention(1e-4, 1e-5, 1e-6, 1e-6, 1e-7, 1e-5, 1e-7)
    layout = DecomposedLayout(LayoutSetting({"grouped": law, "decomposed": law}), pieces=pieces)
    shape = KvShape(1, 4, 2, 64)
    rng = np.random.default_rng(3)
    saved = []
    for batch in (2, 6, 16):
        contexts = np.rint(np.exp(rng.normal(5.5, 0.9, batch))).astype(int) + 8
        bench = AttentionBench(shape, int(contexts.sum()) + 16 * batch, torch.float32, CPU)
        spans, slots, queries = verify_spans(contexts, 3), bench.slots_of(contexts), np.full(batch, 3)
        plans = layout.plan(queries, contexts), PaddedLayout().plan(queries, contexts)
        ours, padded = (bench.peak_bytes(spans, slots, plan) for plan in plans)
        assert ours <= padded
        saved.append(padded - ours)
        for plan, measured in zip(plans, (ours, padded), strict=True):
            # besides: the batch's own rows, which the model has in any case, and small change of the allocator
            assert peak_bytes(plan, AttentionShape(4, 2, 64, 4)) <= 1.02 * measured + 20_000
    assert max(saved) > 0
