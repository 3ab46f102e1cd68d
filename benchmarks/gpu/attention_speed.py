"""Attention alone: its share of the memory bandwidth, and the four layouts side by side on the same requests."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.gpu.attention_layer import AttentionLayer
from benchmarks.gpu.part import Row
from benchmarks.gpu.scene import BLOCK_SIZE, NUM_SPECULATIVE_TOKENS, Scene, slots_of, table_setting, tail_spans
from spinbench.calibration.measuring.device_facts import median_s
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.layout.protocol import VerificationLayout
from spinbench.runtime.forward.kernel_batch import TableSetting, causal_rows, on_device
from spinbench.runtime.forward.paged_batch import PagedBatch, table_batch, tiled_batch
from spinbench.runtime.graphs.capture import capture
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.kv.slot_table import SlotTable

CALLS = 20
"""In one graph: a call takes microseconds."""
CACHES = 8
"""Calls go through so many times the largest cache before they read the same again."""


def bandwidth(scene: Scene, copy_bytes_per_s: float) -> Iterator[Row]:
    """Keys and values read per second, at the long context: single rows and verifications, with and without sharing."""
    for kv_heads in (scene.target.num_kv_heads, max(1, scene.target.num_kv_heads // 4)):
        for batch in (scene.batches[0], scene.batches[-1] // 4 or 1):
            for num_rows in (1, NUM_SPECULATIVE_TOKENS + 1):
                context = scene.long_context_tokens
                read = (
                    batch * context * KvShape(1, kv_heads, kv_heads, scene.target.head_dim).bytes_per_token(scene.dtype)
                )
                # call by call another layer's, so that none finds its keys in the cache
                layers = min(CALLS, max(1, -(-CACHES * cache_bytes(scene) // read)))
                heads = scene.target.num_heads, kv_heads, scene.target.head_dim
                setting = table_setting(scene.kernels(), *heads, num_layers=layers)
                slots, spans = slots_of(batch, context, 0), tail_spans([context] * batch, num_rows)
                layer = AttentionLayer.made(setting.shape, slots, batch * num_rows, scene.dtype, scene.device)
                tables = on_device(causal_rows(spans, slots, setting), setting, scene.device)
                passed = table_batch(tables, layer.pool, context)
                seconds = seconds_of(
                    scene, lambda call, layer=layer, passed=passed, layers=layers: layer.attend(passed, call % layers)
                )
                yield {
                    "heads": f"{scene.target.num_heads}/{kv_heads}x{scene.target.head_dim}",
                    "batch": batch,
                    "context_tokens": context,
                    "query_rows": num_rows,
                    "time_us": 1e6 * seconds,
                    "gb_per_s": read / seconds / 1e9,
                    "share_of_copy": read / seconds / copy_bytes_per_s,
                }


def layouts(scene: Scene) -> Iterator[Row]:
    """A verification of requests of very different lengths, in each layout; cells say how much is padding."""
    longest = scene.long_context_tokens // 2
    shortest = max(NUM_SPECULATIVE_TOKENS + 1, longest // 8)
    contexts = np.linspace(shortest, longest, max(scene.batches)).astype(int).tolist()
    kinds: dict[str, VerificationLayout] = {
        "packed": PackedLayout(),
        "padded": PaddedLayout(),
        "grouped": GroupedLayout(window_tokens=longest // 4),
        "decomposed": DecomposedLayout(width=max(8, longest // 8)),
    }
    sizes = scene.target.num_heads, scene.target.num_kv_heads, scene.target.head_dim
    setting = table_setting(scene.kernels(), *sizes)
    for name, layout in kinds.items():
        spans = tail_spans(contexts, NUM_SPECULATIVE_TOKENS + 1)
        plan = layout.plan(spans.num_tokens, spans.stop)
        slots = SlotTable(sum(-(-length // BLOCK_SIZE) for length in contexts), BLOCK_SIZE)
        for row, length in enumerate(contexts):
            slots.hold(row, length, length)
        width = plan.query_width or NUM_SPECULATIVE_TOKENS + 1
        layer = AttentionLayer.made(setting.shape, slots, len(contexts) * width, scene.dtype, scene.device)
        for by, passed in _ways(scene, plan, layer, slots, setting, spans):
            seconds = seconds_of(scene, lambda call, layer=layer, passed=passed: layer.attend(passed))
            cells = plan.useful_cells + plan.padded_cells
            row = {"layout": name, "by": by, "time_us": 1e6 * seconds, "useful_cells": plan.useful_cells}
            yield row | {"padded_share": plan.padded_cells / cells}


def _ways(
    scene: Scene, plan: LayoutPlan, layer: AttentionLayer, slots: SlotTable, setting: TableSetting, spans: TokenSpans
) -> list[tuple[str, PagedBatch]]:
    """The kernels for what is ragged, torch's rectangles for what has some."""
    found = []
    if plan.kind in ("packed", "decomposed"):
        rows = causal_rows(spans, slots, setting, plan if plan.rectangles else None)
        found.append(("kernels", table_batch(on_device(rows, setting, scene.device), layer.pool, 0)))
    if plan.rectangles:
        share = setting.shape.heads_per_kv_head
        found.append(("torch", tiled_batch(spans, slots, layer.pool, share, plan)))
    return found


def cache_bytes(scene: Scene) -> int:
    """Of the largest cache of the GPU."""
    return torch.cuda.get_device_properties(scene.device).L2_cache_size if scene.on_cuda else 0


def seconds_of(scene: Scene, run: Callable[[int], object]) -> float:
    """Seconds of one call, which is told its number, of many in one CUDA graph where there is a GPU."""
    with torch.inference_mode():
        if not scene.on_cuda:
            return median_s(lambda: run(0), scene.device, repeats=1)

        def several() -> None:
            for call in range(CALLS):
                run(call)

        captured = capture(several, scene.device)
        return median_s(captured.replay, scene.device) / CALLS
