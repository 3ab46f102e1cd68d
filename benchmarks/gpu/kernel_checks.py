"""Every kernel against float64, on the shapes that serving gives it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from queue import Empty
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.attention_layer import AttentionLayer
from benchmarks.gpu.part import Allowance, NotMeasured, Row
from benchmarks.gpu.scene import BLOCK_SIZE, Scene, table_setting
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.runtime.forward.kernel_batch import causal_rows, on_device, tree_rows
from spinbench.runtime.forward.paged_batch import table_batch
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.kernels.dense_attention import dense_attention
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kv.slot_table import SlotTable

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest error allowed of results of about 1: a few roundings of the dtype."""
DTYPES_TOGETHER = ((torch.float32,), (torch.bfloat16, torch.float16))


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
        # the float64 form copies a context for every row: longer ones would take tens of GB
        contexts = (1, 15, 16, 17, 63, 64, 65, 300, 513)
        yield Case("whole contexts", (1, 16, 65, 130), (1, 16, 65, 130))
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


def check_kernels(scene: Scene, allowance: Allowance) -> Iterator[Row]:
    """One row per case, heads and dtype: the largest error, what is allowed, and whether it is kept.

    On a GPU each heads in float32, which takes longest to compile, and in the two others in a process of their own, all
    at once: their time is the compiler's; and after an access to memory that is not there, a process has no GPU any
    more.
    """
    if not scene.on_cuda:
        for sizes in heads(scene):
            for dtype in (torch.float32, torch.bfloat16):  # float16 is to the interpreter as float32
                yield from checked(scene, sizes, dtype)
        return
    context = get_context("spawn")
    queue = context.Queue()
    tasks = [(scene, sizes, dtypes, queue) for sizes in heads(scene) for dtypes in DTYPES_TOGETHER]
    workers = [context.Process(target=_report, args=task, daemon=True) for task in tasks]
    for worker in workers:
        worker.start()
    try:
        waited_for = len(workers)
        while waited_for:
            try:
                found = queue.get(timeout=1.0)
            except Empty:
                if not allowance.left_s:
                    raise NotMeasured(f"{waited_for} of {len(workers)} processes did not end in time") from None
                if not any(worker.is_alive() for worker in workers):
                    raise NotMeasured(f"{waited_for} of {len(workers)} processes died without a word") from None
                continue
            if found is None:
                waited_for -= 1
            else:
                yield found
    finally:
        for worker in workers:
            worker.kill()


def checked(scene: Scene, sizes: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Row]:
    """The rows of these heads in this dtype. A case that ends with an error is wrong, and the last one."""
    kernels, allowed = scene.kernels(), TOLERANCE[dtype]
    for case in cases(scene):
        problem = ""
        try:
            error = _error(scene, case, kernels, sizes, dtype)
        except RuntimeError as raised:
            error, problem = float("inf"), f"{type(raised).__name__}: {raised}".splitlines()[0]
        yield {
            "case": case.name,
            "heads": f"{sizes[0]}/{sizes[1]}x{sizes[2]}",
            "dtype": str(dtype).removeprefix("torch."),
            "largest_error": error,
            "allowed": allowed,
            "right": error <= allowed,
            "problem": problem,
        }
        if problem:
            return


def _report(scene: Scene, sizes: tuple[int, int, int], dtypes: Sequence[torch.dtype], queue: Any) -> None:
    torch.set_num_threads(1)
    try:
        for dtype in dtypes:
            for row in checked(scene, sizes, dtype):
                queue.put(row)
    finally:
        queue.put(None)


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
