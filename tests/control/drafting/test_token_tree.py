"""Shapes of token trees, and what drafting and verifying them is counted as."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spinbench.control.costs.job_shape import job_passes
from spinbench.control.draft_length.adaptive import AdaptiveDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.records.recorder import Recorder
from spinbench.control.request_table import RequestTable
from spinbench.control.selector.contextual import ContextualSelector
from spinbench.control.selector.hedge import HedgeSelector
from spinbench.control.selector.merged import MergedSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.text import LiveText
from spinbench.errors import UserError
from tests.control.made_costs import cost_model

SPECINFER = (1, 1, 3, 1, 1, 1, 1, 1)
DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("lookup", "prompt_lookup"))
branchings = st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple)


def test_specinfers_tree() -> None:
    shape = TreeShape(SPECINFER)
    assert shape.widths.tolist() == [1, 1, 1, 3, 3, 3, 3, 3, 3]
    assert shape.num_nodes(np.array([0, 2, 3, 8])).tolist() == [0, 2, 5, 20]  # 1 + 1 + 6 * 3 = 20


def test_first_branches_lie_where_a_chain_would() -> None:
    layout = TreeShape((2, 2)).layout(2)
    # nodes 0 and 1 are the first branch; node 2 is 0's sibling; 3 is 1's sibling, 4 and 5 are children of 2
    assert [level.tolist() for level in layout.levels] == [[0, 2], [1, 3, 4, 5]]
    assert layout.parent.tolist() == [-1, 0, -1, 0, 2, 2]
    assert layout.sees[6].tolist() == [True, False, False, True, False, False, True]
    assert layout.by_level.tolist() == [0, 2, 1, 3, 4, 5]


@given(branchings)
def test_numbers_are_those_of_a_tree(branching: tuple[int, ...]) -> None:
    shape = TreeShape(branching)
    for depth in range(shape.depth + 1):
        layout = shape.layout(depth)
        count = int(shape.num_nodes(np.array(depth)))
        assert sorted(np.concatenate([np.zeros(0, int), *layout.levels]).tolist()) == list(range(count))
        assert (layout.parent < np.arange(count)).all()
        assert [int(level[0]) for level in layout.levels] == list(range(depth))
        for above, level, width in zip(layout.levels, layout.levels[1:], branching[1:], strict=False):
            assert layout.parent[level].reshape(len(above), width).tolist() == [[node] * width for node in above]
        # each sees itself, the newest token and one token of every depth between
        of_depth = np.concatenate([np.full(len(level), place + 2) for place, level in enumerate(layout.levels)] or [[]])
        assert layout.sees.sum(1)[1:].tolist() == of_depth[layout.by_level].tolist()
        assert layout.is_chain == (count == depth)


def _job(tree: TreeShape | None, lengths: list[int], by_lookup: list[bool] | None = None) -> DraftJob:
    rows = np.arange(len(lengths))
    spans = TokenSpans(rows, 5 + rows, 7 + 3 * rows)
    copies = np.array(by_lookup or [False] * len(lengths))
    return DraftJob(0, spans, np.array(lengths), copies, False, tree)


def _counts(job: DraftJob) -> list[int]:
    """Tokens, cells and keys of the span of a job."""
    table = RequestTable([], {}, 1)
    recorder = Recorder(table, LiveText([], {}), ["a"], 0.0)
    recorder.add_span(JobDone(job, None, "a", KnownTimes(0.0, 1.0)), 0)
    spans = recorder.finish(1.0, True).spans
    return [int(spans.num_tokens[0]), int(spans.useful_cells[0]), int(spans.key_tokens[0])]


@given(branchings, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_spans_and_passes_count_the_same(branching: tuple[int, ...], lengths: list[int]) -> None:
    shape = TreeShape(branching)
    job = _job(shape, np.minimum(lengths, shape.depth).tolist())
    passes = job_passes(job)
    assert _counts(job) == [sum(getattr(p, name) for p in passes) for name in ("num_tokens", "num_cells", "num_keys")]


def test_rows_of_a_tree_by_hand() -> None:
    # known tokens 5 and 6; then 2 rows that read 7 keys and 3 nodes: node 2 is behind node 1, which is still empty
    job = _job(TreeShape((2, 2)), [2])
    assert _counts(job) == [2 + 2, 2 * 7 + 2 * 10, 7 + 10]
    assert job.num_nodes.tolist() == [6]
    assert _job(TreeShape((2, 2)), [2, 2], [False, True]).num_nodes.tolist() == [6, 2]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_tree_without_branches_is_a_chain(lengths: list[int]) -> None:
    chain, tree = _job(None, lengths), _job(TreeShape((1,) * 5), lengths)
    assert job_passes(chain) == job_passes(tree)
    assert _counts(chain) == _counts(tree)
    costs = cost_model(DRAFTERS)
    assert costs.job_s(tree) == pytest.approx(costs.job_s(chain))
    assert chain.num_nodes.tolist() == tree.num_nodes.tolist()


def test_a_wider_tree_takes_longer() -> None:
    costs = cost_model(DRAFTERS)
    times = [costs.job_s(_job(TreeShape((width, 1, 1)), [3, 2])) for width in (1, 2, 3)]
    assert times == sorted(set(times))


def _setting(**changes) -> LoopSetting:
    selectors = SelectorSetting(DRAFTERS, 4, 4, np.random.default_rng(0), 3)
    made = LoopSetting(
        DRAFTERS, MergedSelector(selectors, drafters=["b", "a"]), TreeDraftLength(branching=[1, 2, 1]), PackedLayout(),
        frozenset(), 10, 4, 4, 64,
    )  # fmt: skip
    return replace(made, **changes)


def test_what_a_request_may_need_for_branches() -> None:
    merged = _setting()
    assert merged.merged == (0, 1)
    assert merged.drafter_names == ("a", "b", "lookup", "merged")
    # 1 + 2 + 2 = 5 nodes from each of two drafters
    assert merged.num_draft_tokens(np.array([0, 1, 3])).tolist() == [0, 2, 10]
    assert merged.branch_tokens == 10 - 3
    assert _setting(draft_length=FixedDraftLength(4)).branch_tokens == 4


def test_what_does_not_go_together() -> None:
    selectors = SelectorSetting(DRAFTERS, 4, 4, np.random.default_rng(0), 3)
    with pytest.raises(UserError, match="only verification=packed"):
        _setting(layout=PaddedLayout())
    adaptive = AdaptiveDraftLength(
        selectors, max_num_speculative_tokens=4, min_survival=0.3, prior_rate=0.5, decay=0.9, probe_share=0.01
    )
    with pytest.raises(UserError, match="selector=merged asks several drafters"):
        _setting(draft_length=adaptive)
    hedge = HedgeSelector(selectors, loss="acceptance_length", per_request=True)
    contextual = ContextualSelector(selectors, optimism=1, payback_rounds=4, memory_rounds=50, learn_costs=False)
    for learner in (hedge, contextual):
        with pytest.raises(UserError, match="first choices"):
            _setting(selector=learner)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "c"]])
def test_wrong_members_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match=r"two different drafters|drafters of this run are a, b, lookup"):
        MergedSelector(SelectorSetting(DRAFTERS, 4, 4, np.random.default_rng(0)), drafters=names)


@pytest.mark.parametrize("branching", [[], [0], [17]])
def test_a_wrong_shape_is_refused(branching: list[int]) -> None:
    with pytest.raises(ValidationError):
        TreeDraftLength(branching=branching)


def test_too_many_nodes_are_refused() -> None:
    with pytest.raises(UserError, match="a tree of 272 tokens"):  # 16 + 16 * 16
        TreeDraftLength(branching=[16, 16])
