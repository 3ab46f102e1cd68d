"""Drafting while the target verifies, on real tiny models: the text is that of plain decoding."""

import functools
import time

import pytest

from spinbench.metrics.identities import check_identities
from spinbench.runtime.drafter import ModelDrafter
from tests.runtime import serving, tiny_models

TRACE = serving.requests(6, max_new_tokens=16)


@functools.cache
def _plain(sampled: bool) -> dict[str, tuple[int, ...]]:
    sampling = serving.NUCLEUS if sampled else serving.GREEDY
    return serving.outputs(serving.serve(tiny_models.target(), [], TRACE, selector="plain", sampling=sampling))


def _serve(sampled: bool, **decisions):
    target = tiny_models.target()
    record = serving.serve(
        target, tiny_models.drafters(target), TRACE, depth="draft_while_verify",
        sampling=serving.NUCLEUS if sampled else serving.GREEDY, **decisions,
    )  # fmt: skip
    check_identities(record, [request.id for request in TRACE])
    assert serving.outputs(record) == _plain(sampled)
    assert "draft_ahead" in record.spans.kind
    return record


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "drafter_invariant"])
@pytest.mark.parametrize("max_num_seqs", [1, 3, 8])
def test_drafting_ahead_is_lossless(max_num_seqs, sampled):
    used = 0
    for k, placement, selector in (
        (1, "own_devices", "random"),
        (2, "drafters_together", "fixed good"),
        (4, "shared", "fixed good"),
    ):
        record = _serve(sampled, selector=selector, draft_length=k, max_num_seqs=max_num_seqs, placement=placement)
        used += record.spans.used_tokens.sum()
    assert used > 0


@pytest.mark.parametrize("placement", ["shared", "own_devices"])
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "drafter_invariant"])
def test_what_is_drafted_ahead_may_outlive_its_request(sampled, placement, monkeypatch):
    go_on = ModelDrafter.go_on

    def slow(self, *job):
        time.sleep(0.01)  # so long that requests finish, or are preempted, meanwhile
        return go_on(self, *job)

    monkeypatch.setattr(ModelDrafter, "go_on", slow)
    record = _serve(
        sampled,
        selector="random",
        draft_length=1,
        max_num_seqs=6,
        num_kv_blocks=16,
        placement=placement,
        layout="padded",
    )
    assert sum(one.num_preemptions for one in record.requests) > 0


@pytest.mark.parametrize("selector", ["spin", "joint", "fixed good+prompt_lookup"])
def test_it_goes_with_other_decisions(selector):
    record = _serve(
        False, selector=selector, draft_length=2, max_num_seqs=3, placement="own_devices", switching="ahead",
        layout="decomposed",
    )  # fmt: skip
    if selector == "fixed good+prompt_lookup":  # copies are not gone on from
        ahead = [place for place, kind in enumerate(record.spans.kind) if kind == "draft_ahead"]
        drafted = [place for place, kind in enumerate(record.spans.kind) if kind == "draft"]
        assert 0 < len(ahead) < len(drafted)
