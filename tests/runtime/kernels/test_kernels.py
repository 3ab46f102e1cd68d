"""The Triton kernels, run by Triton's interpreter, attend as torch's path does, for drawn shapes of passes."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.plan import LayoutPlan
from spinbench.errors import UserError
from spinbench.runtime.forward.attention import paged_attention
from spinbench.runtime.forward.attention_choice import choose_attention
from spinbench.runtime.forward.kernel_batch import TableSetting, causal_rows, on_device, tree_rows
from spinbench.runtime.forward.paged_batch import PagedBatch, packed_batch, table_batch, tiled_batch
from spinbench.runtime.forward.tree_batch import TreeNodes, tree_batch
from spinbench.runtime.graphs.static_ints import StaticInts
from spinbench.runtime.kernels.dense_attention import dense_attention
from spinbench.runtime.kernels.kernel_rows import (
    FIELDS,
    HostRows,
    Pieces,
    RowKeys,
    piece_width,
    tile_size,
    to_device,
)
from spinbench.runtime.kernels.table_attention import Attend, TableAttention
from spinbench.runtime.kv.kv_pool import KvPool, KvShape
from spinbench.runtime.kv.slot_table import SlotTable

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@dataclass(frozen=True)
class Pass:
    """A pass to be run twice."""

    shape: KvShape
    block_size: int
    start: tuple[int, ...]
    num_rows: tuple[int, ...]
    width: int
    """Of pieces; 0 = whole contexts."""
    seed: int
    wanted_programs: int = 0

    @property
    def spans(self) -> TokenSpans:
        start = np.array(self.start)
        return TokenSpans(np.arange(len(start)), start, start + np.array(self.num_rows))


@st.composite
def passes(draw: st.DrawFn, most_requests: int = 3, most_keys: int = 40) -> Pass:
    kv_heads = draw(st.integers(1, 2))
    share = draw(st.sampled_from([1, 2, 3, 4]))
    head_dim = draw(st.sampled_from([8, 16, 20, 32, 80]))
    block_size = draw(st.sampled_from([4, 16, 32]))
    count = draw(st.integers(1, most_requests))
    start = tuple(draw(st.sampled_from([0, 1, block_size - 1, block_size, most_keys])) for _ in range(count))
    # single rows, as drafters have them, every now and then
    rows = tuple(1 if draw(st.booleans()) else draw(st.integers(1, 6)) for _ in range(count))
    shape = KvShape(1, kv_heads * share, kv_heads, head_dim)
    width = draw(st.sampled_from([0, 5, 16, 17]))
    return Pass(shape, block_size, start, rows, width, draw(st.integers(0, 99)), draw(st.sampled_from([0, 8])))


def fewer(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


def table(run: Pass) -> SlotTable:
    """Slots of the requests, whose blocks lie here and there: they grow in turn, without homes."""
    spans = run.spans
    slots = SlotTable(200, run.block_size)
    slots._find_home = lambda row, length: None  # type: ignore[method-assign]
    for num_tokens in range(1, int(spans.stop.max()) + 9):
        for row, stop in enumerate(spans.stop.tolist()):
            if num_tokens <= stop + 8:
                slots.hold(row, num_tokens, stop + 8)
    return slots


@dataclass(frozen=True)
class Inputs:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    pool: KvPool

    @classmethod
    def of(cls, run: Pass, num_rows: int, dtype: torch.dtype) -> "Inputs":
        generator = torch.Generator().manual_seed(run.seed)
        shape = run.shape

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

        pool = KvPool(shape, 200 * run.block_size, dtype, CPU)
        pool.keys.copy_(normal(*pool.keys.shape))
        pool.values.copy_(normal(*pool.values.shape))
        # as models give them: heads within rows for one, rows within heads for another
        query = normal(1, num_rows, shape.num_heads, shape.head_dim).transpose(1, 2)
        key = normal(1, shape.num_kv_heads, num_rows, shape.head_dim)
        value = normal(1, num_rows, shape.num_kv_heads, shape.head_dim).transpose(1, 2)
        return cls(query, key, value, pool)


class _Layer(torch.nn.Module):
    layer_idx = 0


def attended(inputs: Inputs, batch: PagedBatch, scale: float = 0.3) -> torch.Tensor:
    return paged_attention(_Layer(), inputs.query, inputs.key, inputs.value, None, scale, paged=batch)[0]


def agree(
    run: Pass, dtype: torch.dtype, attend: Attend, plan: LayoutPlan | None = None, nodes: TreeNodes | None = None
):
    """The reference, and the same by tables: results, and what is in the pools behind it."""
    slots = table(run)
    setting = TableSetting(TableAttention(attend, run.wanted_programs), run.shape, run.block_size)
    num_rows = sum(run.num_rows) if nodes is None else sum(map(len, nodes.places))
    # the reference in float64 on the same numbers
    ours = Inputs.of(run, num_rows, dtype)
    pool = KvPool(run.shape, 200 * run.block_size, torch.float64, CPU)
    pool.keys.copy_(ours.pool.keys)
    pool.values.copy_(ours.pool.values)
    exact = Inputs(ours.query.double(), ours.key.double(), ours.value.double(), pool)
    share = run.shape.heads_per_kv_head
    if nodes is not None:
        reference = tree_batch(nodes, slots, pool, share)
        rows = tree_rows(nodes, slots, setting)
    else:
        reference = (
            tiled_batch(run.spans, slots, pool, share, plan) if plan else packed_batch(run.spans, slots, pool, share)
        )
        rows = causal_rows(run.spans, slots, setting, plan)
    batch = table_batch(on_device(rows, setting, CPU), ours.pool, 99)
    expected, got = attended(exact, reference), attended(ours, batch)
    torch.testing.assert_close(got.double(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert torch.equal(ours.pool.keys.double(), pool.keys)
    assert torch.equal(ours.pool.values.double(), pool.values)
    return rows


def plan_of(run: Pass) -> LayoutPlan | None:
    spans = run.spans
    return DecomposedLayout(width=run.width).plan(spans.num_tokens, spans.stop) if run.width else None


def trees(run: Pass) -> TreeNodes:
    """Random trees of the requests' rows; a node's parent has a lower place."""
    rng = np.random.default_rng(run.seed)
    sees, depths = [], []
    for count in run.num_rows:
        own = np.eye(count, dtype=bool)
        depth = np.zeros(count, np.int64)
        for node in range(1, count):
            parent = int(rng.integers(0, node))
            own[node] |= own[parent]
            depth[node] = depth[parent] + 1
        sees.append(own)
        depths.append(depth)
    places = [np.arange(count) for count in run.num_rows]
    return TreeNodes(run.spans.rows, run.spans.start, places, depths, sees)


def kernels() -> Attend:
    return pytest.importorskip("spinbench.runtime.kernels.triton_attention").triton_attention


@fewer(8)
@given(passes())
def test_kernels_attend_as_torch_does(run):
    agree(run, torch.float64, kernels(), plan_of(run))


@fewer(3)
@given(passes())
def test_kernels_attend_to_trees(run):
    agree(run, torch.float64, kernels(), nodes=trees(run))


@pytest.mark.full_matrix
@fewer(150)
@given(passes(most_requests=6, most_keys=150), st.sampled_from(sorted(TOLERANCE, key=str)))
def test_kernels_attend_as_torch_does_in_many_shapes(run, dtype):
    agree(run, dtype, kernels(), plan_of(run))
    agree(run, dtype, kernels(), nodes=trees(run))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_number_formats(dtype):
    run = Pass(KvShape(1, 6, 2, 24), 16, (33, 0, 15), (5, 1, 2), 17, 3)
    agree(run, dtype, kernels(), plan_of(run))


def test_a_draft_step_takes_one_row_a_request():
    run = Pass(KvShape(1, 3, 3, 16), 4, (9, 0, 15), (1, 1, 1), 5, 5)
    rows = agree(run, torch.float64, kernels(), plan_of(run))
    assert rows.tile_rows == 1
    assert rows.num_partials > 0


@fewer(25)
@given(passes(most_requests=5))
def test_the_dense_form_attends_as_torch_does(run):
    agree(run, torch.float64, dense_attention, plan_of(run))
    agree(run, torch.float64, dense_attention, nodes=trees(run))


def test_a_wide_tree_has_several_words_of_mask():
    run = Pass(KvShape(1, 2, 1, 8), 16, (7, 3), (40, 2), 0, 1)
    nodes = trees(run)
    rows = agree(run, torch.float64, dense_attention, nodes=nodes)
    assert rows.bits.shape[1] == 2
    assert agree(run, torch.float64, kernels(), nodes=nodes).tile_rows == 64


@fewer(100)
@given(passes(most_requests=6), st.integers(1, 40))
def test_tiles_hold_every_key_of_every_row_once(run, wanted):
    """Whatever is cut, each row's visible keys are covered once, and its partial results are where the merge looks."""
    setting = TableSetting(TableAttention(dense_attention, wanted), run.shape, run.block_size)
    rows: HostRows = causal_rows(run.spans, table(run), setting, plan_of(run))
    seen = np.zeros((len(rows.limits), int(rows.limits.max())), np.int64)
    partial: dict[int, list[int]] = {}
    for request, first, count, first_key, stop_key, first_partial in rows.tiles.tolist():
        assert count * run.shape.heads_per_kv_head <= max(rows.tile_rows, run.shape.heads_per_kv_head)
        for place in range(count):
            assert rows.requests[first + place] == request
            seen[first + place, first_key : max(first_key, stop_key)] += 1
            if first_partial >= 0:
                partial.setdefault(first + place, []).append(first_partial + place)
    for row, limit in enumerate(rows.limits.tolist()):
        assert (seen[row, :limit] == 1).all()
    assert sorted(itertools.chain.from_iterable(partial.values())) == list(range(rows.num_partials))
    merged = {row: [first + step * piece for piece in range(count)] for row, first, step, count in rows.merges.tolist()}
    assert {row: sorted(places) for row, places in partial.items()} == merged


@fewer(40)
@given(passes(most_requests=6), st.booleans())
def test_tables_begin_where_kernels_need_not_be_compiled_anew(run, of_trees):
    """At addresses that are multiples of 16, whatever their sizes: Triton tells these from others."""
    setting = TableSetting(TableAttention(dense_attention, run.wanted_programs), run.shape, run.block_size)
    rows = tree_rows(trees(run), table(run), setting) if of_trees else causal_rows(run.spans, table(run), setting, None)
    on_cpu = to_device(rows, CPU)
    static = StaticInts({name: getattr(rows, name).shape for name in FIELDS}, CPU)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(on_cpu, name).numpy(), getattr(rows, name))
        assert getattr(on_cpu, name).data_ptr() % 16 == 0
        assert static[name].data_ptr() % 16 == 0


def test_what_changes_from_pass_to_pass_is_not_compiled_for():
    """Launches of passes of all sizes, gone as far as the machine code: whole contexts and cut ones, and no more."""
    pytest.importorskip("triton")
    compiling = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.runtime.compiled_variants"]
    done = subprocess.run(command, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"store_kv": 1, "attend": 2, "merge": 1}


def test_a_pool_may_hold_more_than_two_to_the_31_numbers():
    """Keys and values far behind the first 2^31 numbers, as in a pool of 100 GB: the rest of it is never touched."""
    attend = kernels()
    shape, block_size, stride = KvShape(1, 2, 1, 16), 4, 40_000_000
    slots = SlotTable(16, block_size)
    slots.hold(0, 40, 40)  # blocks in front of those that are looked at
    slots.hold(1, 20, 20)
    last = int(slots.slots(1, 19, 20)[0])
    assert last * stride > 1 << 31
    room = torch.empty(last * stride + 32, dtype=torch.float16)  # takes the memory of the pages that are written
    pools = [room.as_strided((last + 1, 1, 16), (stride, 16, 1), offset) for offset in (0, 16)]
    near = [torch.randn(last + 1, 1, 16, generator=torch.Generator().manual_seed(seed)).half() for seed in (0, 1)]
    for far, close in zip(pools, near, strict=True):
        far.copy_(close)
    spans = TokenSpans(np.array([1]), np.array([17]), np.array([20]))
    setting = TableSetting(TableAttention(attend, 0), shape, block_size)
    tables = to_device(
        causal_rows(spans, slots, setting, DecomposedLayout(width=7).plan(spans.num_tokens, spans.stop)), CPU
    )
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(1, heads, 3, 16, generator=generator).half() for heads in (2, 1, 1))
    got, expected = (attend(query, key, value, *pool, tables, block_size, 0.3) for pool in (pools, near))
    assert torch.equal(got, expected)
    assert torch.equal(pools[0], near[0])
    assert torch.equal(pools[1], near[1])


def test_contexts_are_cut_to_fill_a_device_and_no_further():
    alone = RowKeys.causal(np.array([8190]), np.array([8191]))
    width = piece_width(alone, 8, 4, 500, 64)
    assert width % 64 == 0
    assert len(Pieces.of_width(alone.num_keys, width).places) * 8 == pytest.approx(500, rel=0.1)
    many = RowKeys.causal(np.full(64, 8190), np.full(64, 8191))
    assert piece_width(many, 8, 4, 500, 64) == 0
    short = RowKeys.causal(np.array([200]), np.array([201]))
    assert piece_width(short, 8, 4, 500, 64) == 128


@pytest.mark.parametrize(
    ("rows", "share", "size"), [(1, 1, 1), (1, 4, 16), (5, 1, 16), (5, 4, 32), (999, 8, 64), (1, 71, 128)]
)
def test_tile_sizes(rows, share, size):
    assert tile_size(rows, share) == size


def test_choice_of_attention():
    assert choose_attention("auto", CPU, torch.bfloat16) == "torch"
    assert choose_attention("torch", torch.device("cuda"), torch.bfloat16) == "torch"
    pytest.importorskip("triton")
    assert choose_attention("auto", torch.device("cuda"), torch.bfloat16) == "triton"
    assert choose_attention("auto", torch.device("cuda"), torch.float64) == "torch"


def test_triton_where_it_cannot_run_is_refused(monkeypatch):
    knobs = pytest.importorskip("triton").knobs
    monkeypatch.setattr(knobs.runtime, "interpret", False)
    with pytest.raises(UserError, match=r"engine.attention is triton; the models run on a cpu, .* auto or torch"):
        choose_attention("triton", CPU, torch.float32)
    with pytest.raises(UserError, match="float32 and bfloat16, not float64"):
        choose_attention("triton", torch.device("cuda"), torch.float64)
    monkeypatch.setattr("spinbench.runtime.forward.attention_choice.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed; pip install 'spinbench\[gpu\]'"):
        choose_attention("triton", torch.device("cuda"), torch.float32)
    assert choose_attention("auto", torch.device("cuda"), torch.float32) == "torch"
