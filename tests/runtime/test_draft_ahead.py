"""Drafting while the target verifies, on real tiny models: the text is that of plain decoding."""

import functools
import time

import pytest

from spinbench.metrics.identities import check_identities
from spinbench.runtime.drafters.model import ModelDrafter
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=16)
PLACEMENTS = ("shared", "drafters_together", "own_devices")


@functools.cache
def _plain(sampling: str) -> dict[str, tuple[int, ...]]:
    target, _ = tiny_models.shared()
    return serving.outputs(serving.serve(target, [], TRACE, selector="plain", sampling=serving.SAMPLINGS[sampling]))


def _serve(sampling: str, **decisions):
    target, models = tiny_models.shared()
    trace, plain = serving.three_batches(TRACE, decisions["max_num_seqs"]), _plain(sampling)
    record = serving.serve(
        target, models, trace, depth="draft_while_verify", sampling=serving.SAMPLINGS[sampling], **decisions
    )
    check_identities(record, [request.id for request in trace])
    assert serving.outputs(record) == {request.id: plain[request.id] for request in trace}
    return record


@matrix(
    {
        "selector": ("fixed good", "fixed good+prompt_lookup", "random", "spin", "joint"),
        "max_num_seqs": (1, 3, 8),
        "draft_length": (1, 2, 4),
        "placement": PLACEMENTS,
        "switching": ("on_demand", "ahead"),
        "sampling": serving.SAMPLINGS,
    }
)
def test_drafting_ahead_is_lossless(selector, max_num_seqs, draft_length, placement, switching, sampling):
    record = _serve(
        sampling, selector=selector, max_num_seqs=max_num_seqs, draft_length=draft_length, placement=placement,
        switching=switching,
    )  # fmt: skip
    kinds = record.spans.kind
    if selector == "fixed good":  # five tokens in a row are seldom right
        assert draft_length == 4 or record.spans.used_tokens.sum() > 0
    elif selector == "fixed good+prompt_lookup":  # copies are not gone on from
        assert 0 < kinds.count("draft_ahead") < kinds.count("draft")
    elif selector != "joint":
        assert "draft_ahead" in kinds


@pytest.mark.parametrize("placement", ["shared", "own_devices"])
@pytest.mark.parametrize("sampling", serving.SAMPLINGS)
def test_what_is_drafted_ahead_may_outlive_its_request(sampling, placement, monkeypatch):
    go_on = ModelDrafter.go_on

    def slow(self, *job):
        time.sleep(0.01)  # so long that requests finish, or are preempted, meanwhile
        return go_on(self, *job)

    monkeypatch.setattr(ModelDrafter, "go_on", slow)
    record = _serve(
        sampling,
        selector="random",
        draft_length=1,
        max_num_seqs=8,
        num_kv_blocks=20,
        placement=placement,
        layout="padded",
    )
    assert sum(one.num_preemptions for one in record.requests) > 0
    assert "draft_ahead" in record.spans.kind
