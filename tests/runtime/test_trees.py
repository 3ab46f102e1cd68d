"""Token trees, of one drafter or merged from several: lossless, and accepted off the first branch."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.jobs.result import VerifyResult
from spinbench.control.records.run_record import RunRecord
from spinbench.runtime.draft import Draft
from spinbench.runtime.kv.kv_pool import KvPool
from spinbench.runtime.proposals import Proposals
from spinbench.runtime.token_tree import Proposal, merge, tree_rows, walk
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=16)
SPECINFER = (1, 1, 3, 1, 1, 1, 1, 1)
MERGED = "merged good,poor,prompt_lookup"


@functools.cache
def _plain(family: str, sampling: str) -> dict[str, tuple[int, ...]]:
    record = serving.serve(
        tiny_models.target(family), [], TRACE, selector="plain", max_num_seqs=1, sampling=serving.SAMPLINGS[sampling]
    )
    return serving.outputs(record)


def _serve(family: str = tiny_models.QUICK, sampling: str = "greedy", **decisions) -> RunRecord:
    target, models = tiny_models.shared(family)
    trace, plain = serving.three_batches(TRACE, decisions.get("max_num_seqs", 3)), _plain(family, sampling)
    record = serving.serve(target, models, trace, sampling=serving.SAMPLINGS[sampling], **decisions)
    assert serving.outputs(record) == {request.id: plain[request.id] for request in trace}
    return record


@matrix(
    {
        "family": tiny_models.FAMILIES,
        "selector": ("fixed poor", "random"),
        "branching": (SPECINFER, (3, 2, 2, 1)),
        "max_num_seqs": (1, 3, 8),
        "sampling": serving.SAMPLINGS,
    },
    apart=[("family", "max_num_seqs")],
)
def test_trees_are_lossless(family, selector, branching, max_num_seqs, sampling):
    tree = TreeDraftLength(branching=list(branching))
    record = _serve(family, sampling, selector=selector, draft_length=tree, max_num_seqs=max_num_seqs)
    assert record.rounds.drafted.max() == tree.tree.num_nodes(np.array(len(branching)))


@matrix(
    {
        "family": tiny_models.FAMILIES,
        "branching": (None, (2, 1, 2)),
        "max_num_seqs": (1, 3, 8),
        "sampling": serving.SAMPLINGS,
    },
    apart=[("family", "max_num_seqs")],
)
def test_merged_drafts_are_lossless(family, branching, max_num_seqs, sampling):
    drafting = 4 if branching is None else TreeDraftLength(branching=list(branching))
    record = _serve(family, sampling, selector=MERGED, draft_length=drafting, max_num_seqs=max_num_seqs)
    assert set(record.rounds.drafter.tolist()) <= {-1, len(record.drafters) - 1}
    assert record.drafters[-1] == "merged"


SET_UPS: dict[str, dict[str, Any]] = {
    "preempted": {"num_kv_blocks": 26},
    "pipeline": {"depth": 2},
    "lanes": {"depth": 3, "placement": "own_devices", "switching": "ahead"},
}


@matrix(
    {
        "selector": ("spin", "merged good,small_vocabulary,good+prompt_lookup"),
        "set_up": SET_UPS,
        "sampling": serving.SAMPLINGS,
    }
)
def test_preemption_and_pipelines_are_lossless(selector, set_up, sampling):
    tree = TreeDraftLength(branching=[2, 1, 2, 1])
    record = _serve(sampling=sampling, selector=selector, draft_length=tree, max_num_seqs=8, **SET_UPS[set_up])
    if set_up == "preempted" and selector == "spin":
        assert sum(request.num_preemptions for request in record.requests) > 0


def _of_each_request(record: RunRecord) -> dict[str, list[tuple]]:
    parts: dict[str, list[tuple]] = {}
    for part in record.rounds:
        facts = (part.drafter, part.num_speculative_tokens, part.drafted, part.accepted, part.draft_depth)
        parts.setdefault(part.request_id, []).append(facts)
    return parts


def test_a_chain_is_the_tree_of_one_branch():
    chain = _serve(selector="fixed good", draft_length=5)
    tree = _serve(selector="fixed good", draft_length=TreeDraftLength(branching=[1] * 5))
    assert _of_each_request(tree) == _of_each_request(chain)


def test_more_branches_accept_more():
    emitted_per_round = [
        np.mean(_serve(selector="fixed poor", draft_length=TreeDraftLength(branching=shape)).rounds.accepted)
        for shape in ([1, 1, 1], [2, 2, 2], [4, 4, 4])
    ]
    assert emitted_per_round == sorted(set(emitted_per_round))


def test_merging_accepts_what_any_member_would():
    names = ("poor", "small_vocabulary")
    alone = [np.mean(_serve(selector=f"fixed {name}").rounds.accepted) for name in names]
    merged = _serve(selector=f"merged {','.join(names)}").rounds
    assert np.mean(merged.accepted) > max(alone)
    # a common prefix is verified once
    assert merged.drafted.max() <= 8
    assert (merged.drafted < merged.num_speculative_tokens).any()


def test_accepted_kv_off_the_first_branch_is_moved(monkeypatch):
    moved: list[int] = []
    move = KvPool.move

    def counted(self: KvPool, source: torch.Tensor, final: torch.Tensor) -> None:
        moved.append(len(source))
        move(self, source, final)

    monkeypatch.setattr(KvPool, "move", counted)
    _serve(selector="fixed poor", draft_length=TreeDraftLength(branching=[3, 3, 1]))
    assert sum(moved) > 10
    monkeypatch.setattr(KvPool, "move", lambda *_: None)
    with pytest.raises(AssertionError):
        _serve(selector="fixed poor", draft_length=TreeDraftLength(branching=[3, 3, 1]))


def _paths(draft: Draft) -> set[tuple[int, ...]]:
    """What each node spells from the newest token on."""
    parents = range(-1, len(draft) - 1) if draft.parents is None else draft.parents.tolist()
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(draft.token_ids.tolist(), parents, strict=True):
        assert parent < len(paths)
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    assert len(set(paths)) == len(paths)
    return set(paths)


def _draft(paths: list[tuple[int, ...]]) -> Draft:
    """A tree that spells these, and their prefixes."""
    nodes = list(dict.fromkeys(path[:end] for path in paths for end in range(1, len(path) + 1)))
    parents = np.array([nodes.index(node[:-1]) if len(node) > 1 else -1 for node in nodes], np.int64)
    return Draft(torch.tensor([node[-1] for node in nodes], dtype=torch.int64), parents=parents)


trees = st.lists(st.lists(st.integers(0, 2), max_size=4).map(tuple), max_size=5).map(_draft)
batches = st.integers(1, 3).flatmap(
    lambda count: st.lists(st.lists(trees, min_size=count, max_size=count), min_size=1, max_size=3)
)


def _merged(batch: list[list[Draft]]) -> list[Proposal]:
    """`batch` has the drafts of each drafter."""
    merged = [Proposal(draft, len(draft), {0: None}) for draft in batch[0]]
    for drafter, drafts in enumerate(batch[1:], start=1):
        merged = merge(merged, drafter, drafts)
    return merged


@given(batches)
def test_a_merged_tree_spells_what_its_parts_spell_once(batch: list[list[Draft]]) -> None:
    for place, proposal in enumerate(_merged(batch)):
        assert _paths(proposal.draft) == set().union(*(_paths(drafts[place]) for drafts in batch))


@given(batches, st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_the_walk_follows_the_text_as_far_as_a_path_goes(batch: list[list[Draft]], text: list[int]) -> None:
    proposals = _merged(batch)
    width = max(len(proposal.draft) for proposal in proposals) + 1
    rows = tree_rows([proposal.draft for proposal in proposals], width)
    tokens = torch.full((len(proposals), width), -1)
    for row, proposal in zip(tokens, proposals, strict=True):
        row[1 : len(proposal.draft) + 1] = proposal.draft.token_ids
    own = torch.arange(width) <= torch.tensor([[len(proposal.draft)] for proposal in proposals])
    choices = torch.tensor(text)[torch.from_numpy(rows.depth).clamp(max=4)]
    accepted, path = walk(tokens, choices, own, rows)
    for place, proposal in enumerate(proposals):
        spelt = _paths(proposal.draft)
        length = max(end for end in range(6) if end == 0 or tuple(text[:end]) in spelt)
        assert int(accepted[place]) == length
        taken = path[place, 1 : length + 1]
        assert tokens[place, taken].tolist() == text[:length]
        for drafter, drafts in enumerate(batch):
            if drafter in proposal.place_of:
                own_path = proposal.own_path(drafter, taken.numpy())
                spelt_alone = _paths(drafts[place])
                assert len(own_path) == max(end for end in range(6) if end == 0 or tuple(text[:end]) in spelt_alone)
                assert drafts[place].token_ids[own_path - 1].tolist() == text[: len(own_path)]


def test_a_released_request_moves_nothing():
    proposals = Proposals(1)
    proposals.put(0, [7], [_draft([(1,), (2,)])])
    spans = TokenSpans(np.array([7]), np.array([10]), np.array([13]))
    result = VerifyResult(np.array([[2, 9]]), np.array([2]))
    assert proposals.settle(spans, result, np.array([[0, 2, 1]])).accepted_of is None
    proposals.release([7])
    assert proposals.take_moves(0, [7]) is None
