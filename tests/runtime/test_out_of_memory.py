"""A run whose jobs do not all fit on the device goes on, and no text differs; real tiny models."""

import functools
import logging

import numpy as np
import pytest
import torch

from spinbench.control import batch_limits
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.identities import check_identities
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.job_work import JobWork
from spinbench.runtime.out_of_memory import if_it_fits
from spinbench.runtime.proposals import Proposals
from spinbench.runtime.token_tree import KvMoves
from tests.covering import matrix
from tests.runtime import serving, tiny_models
from tests.runtime.scarce_memory import ScarceMemory, every_third_of_several

TRACE = serving.requests(8, max_new_tokens=16)
LONGEST = "r2"


@functools.cache
def _plain(sampling: str) -> dict[str, tuple[int, ...]]:
    target, _ = tiny_models.shared("llama")
    return serving.outputs(serving.serve(target, [], TRACE, selector="plain", sampling=serving.SAMPLINGS[sampling]))


@pytest.fixture(autouse=True)
def texts() -> None:
    """Those of plain decoding are made while there is memory for all."""
    for sampling in serving.SAMPLINGS:
        _plain(sampling)


def _serve(patch: pytest.MonkeyPatch, sampling: str = "greedy", **decisions) -> RunRecord:
    """Serve the trace; all blocks and slots are free at the end."""
    target, models = tiny_models.shared("llama")
    made = []
    for name in ("make_body", "live_loop"):
        real = getattr(serving, name)
        patch.setattr(serving, name, lambda *parts, real=real, **more: made.append(real(*parts, **more)) or made[-1])
    record = serving.serve(target, models, TRACE, sampling=serving.SAMPLINGS[sampling], **decisions)
    body, loop = made
    assert loop.scheduler._kv_budget.num_free_blocks == decisions.get("num_kv_blocks", 200)
    assert body._tasks._slots._free.all()
    check_identities(record, [request.id for request in TRACE])
    return record


@matrix(
    {
        "selector": ("plain", "fixed good+prompt_lookup", "random", "spin", "merged good,poor"),
        "depth": (1, 2),
        "placement": ("shared", "own_devices"),
        "sampling": serving.SAMPLINGS,
        "jobs_before_more": (1, 3),
        "num_kv_blocks": (200, 26),
    }
)
def test_no_text_differs(selector, depth, placement, sampling, jobs_before_more, num_kv_blocks, monkeypatch):
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", jobs_before_more)
    memory = ScarceMemory(monkeypatch, every_third_of_several())
    record = _serve(
        monkeypatch, sampling, selector=selector, depth=depth, placement=placement, max_num_seqs=8, draft_length=2,
        num_kv_blocks=num_kv_blocks, switching="ahead" if selector == "random" else "on_demand",
    )  # fmt: skip
    assert serving.outputs(record) == _plain(sampling)
    assert memory.refused["verify"] > 0
    if selector not in ("plain", "random"):  # at random few requests share a drafter
        assert memory.refused["draft"] > 0
    assert record.spans.kind.count("out_of_memory") == memory.refused.total()


MOST_RUNS = 5
"""How many requests share a job depends on the clock, and small ones are never refused."""


@pytest.mark.parametrize(
    ("selector", "decisions", "kinds"),
    [
        ("hedge", {}, {"catch_up", "draft", "verify"}),
        ("random", {"depth": "draft_while_verify"}, {"draft", "go_on", "verify"}),
        ("spin", {"depth": "draft_while_verify", "placement": "own_devices"}, {"draft", "go_on", "verify"}),
    ],
)
def test_no_text_differs_where_drafters_are_asked_about_more(selector, decisions, kinds, monkeypatch):
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", 2)
    memory = ScarceMemory(monkeypatch, every_third_of_several())
    for _ in range(MOST_RUNS):
        record = _serve(monkeypatch, selector=selector, max_num_seqs=8, draft_length=2, **decisions)
        assert serving.outputs(record) == _plain("greedy")
        if kinds <= set(memory.refused):
            return
    pytest.fail(f"refused were {memory.refused} alone")


@pytest.mark.parametrize("sampling", serving.SAMPLINGS)
@pytest.mark.parametrize("selector", ["fixed poor", "merged good,small_vocabulary"])
def test_no_text_differs_with_trees(selector, sampling, monkeypatch):
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", 2)
    memory = ScarceMemory(monkeypatch, every_third_of_several())
    tree = TreeDraftLength(branching=[2, 1, 2])
    record = _serve(monkeypatch, sampling, selector=selector, draft_length=tree, max_num_seqs=8)
    assert serving.outputs(record) == _plain(sampling)
    assert memory.refused["draft"] > 0 < memory.refused["verify"]


@pytest.mark.parametrize(("depth", "placement"), [(1, "shared"), (2, "own_devices")])
def test_batches_are_as_large_as_fits(depth, placement, monkeypatch):
    real, most = ModelRunner.run, 40
    largest = []

    def run(self: ModelRunner, token_ids: torch.Tensor, *rest):
        if len(token_ids) > most:  # a pass that does not fit does not begin
            raise torch.OutOfMemoryError("scarce")
        largest.append(len(token_ids))
        return real(self, token_ids, *rest)

    monkeypatch.setattr(ModelRunner, "run", run)
    decisions = {"draft_length": 5, "max_num_seqs": 8, "depth": depth, "placement": placement}
    refused = 0
    for _ in range(MOST_RUNS):
        record = _serve(monkeypatch, selector="round_robin", **decisions)
        assert serving.outputs(record) == _plain("greedy")
        refused += record.spans.kind.count("out_of_memory")
        if refused:
            break
    assert refused
    assert max(largest) > most / 2


@pytest.mark.parametrize("kind", ["prefill", "draft", "verify"])
@pytest.mark.parametrize("depth", [1, 2])
def test_who_never_fits_is_given_up_alone(kind, depth, monkeypatch, caplog):
    row = next(row for row, request in enumerate(TRACE) if request.id == LONGEST)
    ScarceMemory(monkeypatch, lambda _, spans: row not in spans.rows, [kind])
    with caplog.at_level(logging.WARNING):
        record = _serve(monkeypatch, selector="fixed good", max_num_seqs=4, depth=depth)
    plain, reasons = _plain("greedy"), {one.request_id: one.finish_reason for one in record.requests}
    assert [name for name, reason in reasons.items() if reason == "out_of_memory"] == [LONGEST]
    for name, tokens in serving.outputs(record).items():
        assert tokens == (plain[name][: len(tokens)] if name == LONGEST else plain[name])
    (line,) = (one.getMessage() for one in caplog.records if "given up" in one.getMessage())
    assert line.startswith(f"request '{LONGEST}' is given up: out of memory in a {kind} job of it alone")


def test_kv_that_could_not_be_moved_is_moved_later(monkeypatch):
    decisions = {"selector": "fixed poor", "draft_length": TreeDraftLength(branching=[2, 2, 1]), "max_num_seqs": 4}
    with monkeypatch.context() as patch:
        expected = _serve(patch, **decisions)
    real, calls = JobWork.move_kv, []

    def move(self: JobWork, *job):
        calls.append(job)
        if len(calls) % 2:
            raise torch.OutOfMemoryError("scarce")
        real(self, *job)

    monkeypatch.setattr(JobWork, "move_kv", move)
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", 1)
    # never of a request alone, which would be given up
    monkeypatch.setattr(batch_limits.BatchLimits, "retry_round", lambda *_: True)
    record = _serve(monkeypatch, **decisions)
    assert len(calls) > 4
    assert record.spans.kind.count("out_of_memory") == (len(calls) + 1) // 2
    assert _accepted(record) == _accepted(expected)  # with wrong KV drafts would be others


def _accepted(record: RunRecord) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in record.rounds:
        found.setdefault(part.request_id, []).append(part.accepted)
    return found


def test_moves_that_were_not_made_are_put_back_unless_their_kv_is_gone():
    proposals = Proposals(1)
    proposals._moves[0] = {3: (np.array([7]), np.array([6])), 5: (np.array([9, 8]), np.array([5, 4]))}
    taken = proposals.take_moves(0, [3, 5])
    assert taken is not None
    assert proposals.take_moves(0, [3, 5]) is None
    proposals.release([3])
    proposals.put_back(0, taken)
    again = proposals.take_moves(0, [3, 5])
    assert isinstance(again, KvMoves)
    assert (again.rows.tolist(), again.source.tolist(), again.final.tolist()) == ([5, 5], [9, 8], [5, 4])


def test_other_errors_are_not_taken_for_it():
    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        if_it_fits(broken)
    assert if_it_fits(lambda: None) == (None,)
