"""Times and memory of the attention of verification layouts, on the runtime's own path and on ragged batches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spinbench.calibration.fitting.least_squares import relative_nnls
from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleAttention
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.plan import LayoutPlan
from spinbench.runtime.forward.attention import paged_attention
from spinbench.runtime.forward.paged_batch import packed_batch, tiled_batch
from spinbench.runtime.kv.kv_pool import KvPool, KvShape
from spinbench.runtime.kv.slot_table import SlotTable

BLOCK_SIZE = 16
LAW_BATCHES = (1, 2, 4, 8, 16, 32, 64)
LAW_CONTEXTS = (48, 96, 200, 400, 800, 1600)
LAW_PIECES = (1, 2, 3, 5, 8)


@dataclass
class Layer:
    """What attention asks of the module that it works for."""

    layer_idx: int


class AttentionBench:
    """All layers' attention of one verification, over a KV pool of random values; nothing else of the model."""

    def __init__(self, shape: KvShape, num_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        self._num_blocks = num_tokens // BLOCK_SIZE
        self.pool = KvPool(shape, self._num_blocks * BLOCK_SIZE, dtype, device)
        for layer in range(shape.num_layers):
            self.pool.keys[layer].normal_()
            self.pool.values[layer].normal_()
        self._layers = [Layer(layer) for layer in range(shape.num_layers)]

    def slots_of(self, contexts: IntArray) -> SlotTable:
        """Slots of requests with these contexts, each in one stretch."""
        slots = SlotTable(self._num_blocks, BLOCK_SIZE)
        for row, tokens in enumerate(contexts.tolist()):
            slots.hold(row, tokens, tokens)
        return slots

    def run(
        self,
        spans: TokenSpans,
        slots: SlotTable,
        plan: LayoutPlan,
        num_layers: int | None = None,
        query: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Lay the batch out and attend in every layer (or the first ones); the last one's result.

        `query` [1, heads, rows, head_dim] is zeros if left out, the new keys and values always.
        """
        device, dtype = self.pool.keys.device, self.pool.keys.dtype
        share = self.shape.heads_per_kv_head
        if plan.rectangles:
            batch = tiled_batch(spans, slots, self.pool, share, plan)
        else:
            batch = packed_batch(spans, slots, self.pool, share)
        rows, head_dim = len(batch.write_slots), self.shape.head_dim
        if query is None:
            query = torch.zeros(1, rows, self.shape.num_heads, head_dim, dtype=dtype, device=device).transpose(1, 2)
        key = torch.zeros(1, rows, self.shape.num_kv_heads, head_dim, dtype=dtype, device=device).transpose(1, 2)
        out = query
        with torch.inference_mode():
            for layer in self._layers[:num_layers]:
                out, _ = paged_attention(layer, query, key, key, None, paged=batch)  # type: ignore[arg-type]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return out

    def seconds(self, spans: TokenSpans, slots: SlotTable, plan: LayoutPlan) -> float:
        """Seconds of one `run`."""
        begun_s = time.perf_counter()
        self.run(spans, slots, plan)
        return time.perf_counter() - begun_s

    def peak_bytes(self, spans: TokenSpans, slots: SlotTable, plan: LayoutPlan) -> int:
        """Most bytes that laying out and one layer's attention allocate at once, as the allocator tells."""
        return allocated_bytes(lambda: self.run(spans, slots, plan, 1), self.pool.keys.device)


def allocated_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that are alive at once while `run` runs, those before it not counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    kineto = profile.profiler.kineto_results if profile.profiler else None
    events: list[Any] = kineto.events() if kineto else []
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return int(np.cumsum([0, *(change for _, change in changes)]).max())


def verify_spans(contexts: IntArray, num_rows: int) -> TokenSpans:
    """The newest and the drafted tokens at the end of each context."""
    return TokenSpans(np.arange(len(contexts)), contexts - num_rows, contexts)


def fit_law(bench: AttentionBench, num_rows: int, repeats: int) -> RectangleAttention:
    """What rectangles cost here, by decomposed batches of equal contexts: shapes that the comparison does not have."""
    points = []
    grid = [(b, c) for b in LAW_BATCHES for c in LAW_CONTEXTS if b * (c + BLOCK_SIZE) <= bench.pool.null_slot]
    for number, (batch, context) in enumerate(grid):
        contexts = np.full(batch, context)
        width = -(-context // min(LAW_PIECES[number % len(LAW_PIECES)], max(1, context // BLOCK_SIZE)))
        plan = DecomposedLayout(width=width).plan(np.full(batch, num_rows), contexts)
        points.append((verify_spans(contexts, num_rows), bench.slots_of(contexts), plan))
    seconds = np.median([[bench.seconds(*point) for point in points] for _ in range(repeats + 1)][1:], axis=0)
    features = [[float(amount) for amount in plan.shape] for _, _, plan in points]
    return RectangleAttention(*relative_nnls(features, seconds.tolist(), seconds.tolist()))


def timed_ms(runs: Sequence[Callable[[], float]], repeats: int, seed: int = 0) -> np.ndarray:
    """Milliseconds of each run in each repeat, [runs, repeats]: each repeat in an order of its own, after a warm-up."""
    rng, times = np.random.default_rng(seed), np.zeros((len(runs), repeats))
    for run in runs:
        run()
    for repeat in range(repeats):
        for place in rng.permutation(len(runs)).tolist():
            times[place, repeat] = 1e3 * runs[place]()
    return times
