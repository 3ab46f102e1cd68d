"""Every kernel against float64, on the shapes that serving gives it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from benchmarks.gpu.attention_layer import AttentionLayer
from benchmarks.gpu.scene import BLOCK_SIZE, Scene, table_setting
from spinbench.control.job import TokenSpans
from spinbench.control.layout_decomposed import DecomposedLayout
from spinbench.runtime.kernels.dense_attention import dense_attention
from spinbench.runtime.kernels.kernel_batch import causal_rows, on_device, tree_rows
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.paged_batch import table_batch
from spinbench.runtime.slot_table import SlotTable
from spinbench.runtime.tree_batch import TreeNodes

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest error allowed of results of about 1: a few roundings of the dtype."""


@dataclass(frozen=True)
class Case:
    """A batch of requests: contexts, and how many of their last tokens are queries."""

    name: str
    contexts: tuple[int, ...]
    num_rows: tuple[int, ...]
    piece_width: int = 0
    is_tree: bool = False


def cases(scene: Scene) -> Iterator[Case]:
    """Draft steps, verifications, whole contexts, pieces, trees; lengths on and beside edges of blocks and tiles."""
    if scene.on_cuda:
        contexts = (1, 15, 16, 17, 63, 64, 65, 300, 1025)
        yield Case("whole contexts", (1, 16, 65, 300), (1, 16, 65, 300))
    else:
        contexts = (1, 16, 17)
        yield Case("whole contexts", (1, 18), (1, 18))
    yield Case("draft step", contexts, (1,) * len(contexts))
    verified = tuple(min(length, 1 + place % 9) for place, length in enumerate(contexts))
    yield Case("verification", contexts, verified)
    yield Case("pieces", contexts, verified, piece_width=48 if scene.on_cuda else 5)
    yield Case("tree", tuple(max(8, length) for length in contexts), (8,) * len(contexts), is_tree=True)


def heads(scene: Scene) -> tuple[tuple[int, int, int], ...]:
    """Query heads, key heads, head size."""
    if not scene.on_cuda:
        return ((4, 2, 20),)
    return ((32, 32, 128), (32, 8, 128), (9, 3, 64), (12, 12, 64), (8, 8, 80), (6, 2, 96), (16, 2, 256), (4, 4, 32))


def check_kernels(scene: Scene) -> pd.DataFrame:
    """One row per case, heads and dtype: the largest error, what is allowed, and whether it is kept."""
    kernels, rows = scene.kernels(), []
    for num_heads, kv_heads, head_dim in heads(scene):
        for dtype, allowed in TOLERANCE.items():
            if dtype == torch.float16 and not scene.on_cuda:
                continue  # to the interpreter as float32
            for case in cases(scene):
                error = _error(scene, case, kernels, (num_heads, kv_heads, head_dim), dtype)
                rows.append(
                    {
                        "case": case.name,
                        "heads": f"{num_heads}/{kv_heads}x{head_dim}",
                        "dtype": str(dtype).removeprefix("torch."),
                        "largest_error": error,
                        "allowed": allowed,
                        "right": error <= allowed,
                    }
                )
    return pd.DataFrame(rows)


def _error(scene: Scene, case: Case, kernels: TableAttention, sizes: tuple[int, int, int], dtype: torch.dtype) -> float:
    setting = table_setting(kernels, *sizes)
    stop = np.array(case.contexts)
    spans = TokenSpans(np.arange(len(stop)), stop - np.array(case.num_rows), stop)
    slots = SlotTable(int((-(-stop // BLOCK_SIZE)).sum()) + len(stop), BLOCK_SIZE)
    for row, length in enumerate(case.contexts):
        slots.hold(row, length, length)
    if case.is_tree:
        rows = tree_rows(_trees(spans, case.num_rows), slots, setting)
    else:
        layout = DecomposedLayout(width=case.piece_width) if case.piece_width else None
        plan = layout.plan(spans.num_tokens, spans.stop) if layout else None
        rows = causal_rows(spans, slots, setting, plan)
    layer = AttentionLayer.made(setting.shape, slots, sum(case.num_rows), dtype, scene.device)
    exact = layer.in_float64()
    dense = table_setting(TableAttention(dense_attention, 0), *sizes)
    got = layer.attend(table_batch(on_device(rows, setting, scene.device), layer.pool, 0))
    expected = exact.attend(table_batch(on_device(rows, dense, scene.device), exact.pool, 0))
    same_pool = torch.equal(layer.pool.keys.double(), exact.pool.keys)
    return float((got.double() - expected).abs().max()) if same_pool else float("inf")


def _trees(spans: TokenSpans, num_rows: tuple[int, ...]) -> TreeNodes:
    """Two branches at the newest token, and chains from there."""
    sees, depths = [], []
    for count in num_rows:
        own, depth = np.eye(count, dtype=bool), np.zeros(count, np.int64)
        for node in range(1, count):
            parent = max(0, node - 2)
            own[node] |= own[parent]
            depth[node] = depth[parent] + 1
        sees.append(own)
        depths.append(depth)
    return TreeNodes(spans.rows, spans.start, [np.arange(count) for count in num_rows], depths, sees)
