"""KV prepared on lanes of their own, on real tiny models: the text is that of plain decoding, and the simulator's run."""

import functools
import time

import pytest

from spinbench.metrics.identities import check_identities
from spinbench.runtime.drafters.model import ModelDrafter
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=12)
LONGER = serving.requests(8, max_new_tokens=16)
"""Answers that outgrow a small pool."""
PLACEMENTS = ("shared", "drafters_together", "own_devices")
SWITCHING = ("random", "round_robin", "epsilon_greedy", "spin", *serving.BANDITS, *serving.PLANNERS)


@functools.cache
def _plain(sampling: str, longer: bool = False) -> dict[str, tuple[int, ...]]:
    drawn, trace = serving.SAMPLINGS[sampling], LONGER if longer else TRACE
    return serving.outputs(serving.serve(tiny_models.target(), [], trace, selector="plain", sampling=drawn))


@matrix(
    {
        "selector": SWITCHING,
        "max_num_seqs": (1, 3, 8),
        "depth": (1, 2),
        "placement": PLACEMENTS,
        "sampling": serving.SAMPLINGS,
    },
    # hedge asks all drafters between two rounds, a time that a pipeline does not have
    where=lambda selector, depth, **_: selector != "hedge" or depth == 1,
    # how KV is prepared does not depend on who chose; time does, and with it what some of them choose
    apart=[("selector", "placement"), ("selector", "max_num_seqs")],
)
def test_prepared_switches_are_lossless(selector, max_num_seqs, depth, placement, sampling):
    target, models = tiny_models.shared()
    trace, plain = serving.three_batches(TRACE, max_num_seqs), _plain(sampling)
    record = serving.serve(
        target, models, trace, selector=selector, depth=depth, max_num_seqs=max_num_seqs,
        placement=placement, switching="ahead", sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    check_identities(record, [request.id for request in trace])
    assert serving.outputs(record) == {request.id: plain[request.id] for request in trace}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("depth", [1, 2])
def test_catch_ups_may_outlive_their_requests(depth, placement, monkeypatch):
    catch_up = ModelDrafter.catch_up

    def slow(self, *job):
        time.sleep(0.02)
        catch_up(self, *job)

    monkeypatch.setattr(ModelDrafter, "catch_up", slow)
    target, models = tiny_models.shared()
    record = serving.serve(
        target, models, LONGER, selector="random", depth=depth, max_num_seqs=8, num_kv_blocks=20,
        placement=placement, switching="ahead",
    )  # fmt: skip
    assert serving.outputs(record) == _plain("greedy", longer=True)
    assert sum(one.num_preemptions for one in record.requests) > 0
