"""Attention alone: its share of the memory bandwidth, and the four layouts side by side on the same requests."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from benchmarks.gpu.attention_layer import AttentionLayer
from benchmarks.gpu.scene import BLOCK_SIZE, NUM_SPECULATIVE_TOKENS, Scene, slots_of, table_setting, tail_spans
from spinbench.calibration.device_facts import median_s
from spinbench.control.job import TokenSpans
from spinbench.control.layout import LayoutPlan, PackedLayout, PaddedLayout, VerificationLayout
from spinbench.control.layout_decomposed import DecomposedLayout
from spinbench.control.layout_grouped import GroupedLayout
from spinbench.runtime.kernels.kernel_batch import TableSetting, causal_rows, on_device
from spinbench.runtime.paged_batch import PagedBatch, table_batch, tiled_batch
from spinbench.runtime.slot_table import SlotTable

CALLS = 20
"""In one graph: a call takes microseconds."""


def bandwidth(scene: Scene, copy_bytes_per_s: float) -> pd.DataFrame:
    """Keys and values read per second, at the long context: single rows and verifications, with and without sharing."""
    rows = []
    for kv_heads in (scene.target.num_kv_heads, max(1, scene.target.num_kv_heads // 4)):
        for batch in (scene.batches[0], scene.batches[-1] // 4 or 1):
            for num_rows in (1, NUM_SPECULATIVE_TOKENS + 1):
                setting = table_setting(scene.kernels(), scene.target.num_heads, kv_heads, scene.target.head_dim)
                context = scene.long_context_tokens
                slots, spans = slots_of(batch, context, 0), tail_spans([context] * batch, num_rows)
                layer = AttentionLayer.made(setting.shape, slots, batch * num_rows, scene.dtype, scene.device)
                tables = on_device(causal_rows(spans, slots, setting), setting, scene.device)
                passed = table_batch(tables, layer.pool, context)
                seconds = seconds_of(scene, lambda layer=layer, passed=passed: layer.attend(passed))
                read = batch * context * setting.shape.bytes_per_token(scene.dtype)
                rows.append(
                    {
                        "heads": f"{scene.target.num_heads}/{kv_heads}x{scene.target.head_dim}",
                        "batch": batch,
                        "context_tokens": context,
                        "query_rows": num_rows,
                        "time_us": 1e6 * seconds,
                        "gb_per_s": read / seconds / 1e9,
                        "share_of_copy": read / seconds / copy_bytes_per_s,
                    }
                )
    return pd.DataFrame(rows)


def layouts(scene: Scene) -> pd.DataFrame:
    """A verification of requests of very different lengths, in each layout; cells say how much is padding."""
    longest = scene.long_context_tokens // 2
    shortest = max(NUM_SPECULATIVE_TOKENS + 1, longest // 8)
    contexts = np.linspace(shortest, longest, max(scene.batches)).astype(int).tolist()
    rows = []
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
            seconds = seconds_of(scene, lambda layer=layer, passed=passed: layer.attend(passed))
            cells = plan.useful_cells + plan.padded_cells
            row = {"layout": name, "by": by, "time_us": 1e6 * seconds, "useful_cells": plan.useful_cells}
            rows.append(row | {"padded_share": plan.padded_cells / cells})
    return pd.DataFrame(rows)


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


def seconds_of(scene: Scene, run: Callable[[], object]) -> float:
    """Seconds of one call, of many in one CUDA graph where there is a GPU."""
    with torch.inference_mode():
        if not scene.on_cuda:
            return median_s(run, scene.device, repeats=1)
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(CALLS):
                run()
        return median_s(graph.replay, scene.device) / CALLS
