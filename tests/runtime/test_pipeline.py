"""Several micro-batches in flight on several lanes: the text is that of plain decoding, and lanes really overlap."""

import functools

import numpy as np

from spinbench.control.records.run_record import RunRecord
from spinbench.metrics.identities import check_identities
from spinbench.runtime.body import make_body
from spinbench.runtime.session import live_loop
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=12)
PLACEMENTS = ("shared", "drafters_together", "own_devices")
SPLITS = ("by_drafter", "by_length", "round_robin")


@functools.cache
def _plain(sampling: str) -> dict[str, tuple[int, ...]]:
    drawn = serving.SAMPLINGS[sampling]
    return serving.outputs(serving.serve(tiny_models.target(), [], TRACE, selector="plain", sampling=drawn))


def _serve(**decisions) -> RunRecord:
    target, models = tiny_models.shared()
    record = serving.serve(target, models, TRACE, **decisions)
    check_identities(record, [request.id for request in TRACE])
    _check_nobody_is_in_two_rounds(record)
    return record


def _check_nobody_is_in_two_rounds(record: RunRecord) -> None:
    rounds = record.rounds
    begin_s = np.where(np.isnan(rounds.draft_start_s), rounds.verify_start_s, rounds.draft_start_s)
    for row in range(len(rounds.request_ids)):
        own = np.flatnonzero(rounds.row == row)
        assert (begin_s[own][1:] >= rounds.verify_end_s[own][:-1]).all()


@matrix(
    {
        "depth": (2, 3, 4),
        "split": SPLITS,
        "placement": PLACEMENTS,
        "layout": ("packed", "padded"),
        "num_kv_blocks": (200, 13),
        "sampling": serving.SAMPLINGS,
    }
)
def test_pipelines_are_lossless(depth, split, placement, layout, num_kv_blocks, sampling):
    # `random` changes drafters every round, so there is catch-up; with 13 blocks there are preemptions
    record = _serve(
        selector="random", depth=depth, split=split, placement=placement, max_num_seqs=8, layout=layout,
        num_kv_blocks=num_kv_blocks, sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert serving.outputs(record) == _plain(sampling)
    assert (sum(one.num_preemptions for one in record.requests) > 0) == (num_kv_blocks == 13)


@matrix(
    {
        "selector": ("plain", "spin", "fixed prompt_lookup", "fixed good+prompt_lookup"),
        "depth": (1, 20, "adaptive"),
        "placement": PLACEMENTS,
    }
)
def test_other_selectors_and_depths_are_lossless(selector, depth, placement):
    record = _serve(selector=selector, depth=depth, placement=placement, max_num_seqs=5)
    assert serving.outputs(record) == _plain("greedy")


def test_a_body_serves_again_after_an_interruption():
    target = tiny_models.target()
    models = tiny_models.drafters(target)
    decisions = {"selector": "random", "depth": 3, "placement": "own_devices", "max_num_seqs": 8}

    def setting():
        return serving.loop_setting(target, models, len(TRACE), **decisions)

    first = setting()
    drafters = list(zip(first.drafters, [*models, None, *models[:1]], strict=True))
    body = make_body(target, drafters, serving.GREEDY, first.num_kv_blocks, first.block_size, first.placement)
    prompts = {request.id: request.prompt_token_ids or () for request in TRACE}

    class Interrupted:
        """The body, until the 20th event."""

        def __init__(self) -> None:
            self._num_events = 0

        def __getattr__(self, name):
            return getattr(body, name)

        def next_event(self, deadline_s):
            self._num_events += 1
            if self._num_events == 20:
                raise KeyboardInterrupt
            return body.next_event(deadline_s)

    def queue():
        return ArrivalQueue(TRACE, ArrivalPattern(kind="all_at_once"))

    try:
        partial = live_loop(first, body, queue(), prompts, interface=Interrupted()).run()
        assert not partial.complete
        check_identities(partial)
        whole = live_loop(setting(), body, queue(), prompts).run()
    finally:
        body.close()
    assert serving.outputs(whole) == _plain("greedy")


def test_lanes_overlap_on_their_own_devices_alone():
    for placement in PLACEMENTS:
        spans = _serve(selector="fixed good", depth=2, placement=placement, max_num_seqs=8).spans
        target = [place for place, lane in enumerate(spans.lane) if lane == "target"]
        drafter = [place for place, lane in enumerate(spans.lane) if lane != "target"]
        overlaps = (spans.start_s[target, None] < spans.end_s[None, drafter]) & (
            spans.start_s[None, drafter] < spans.end_s[target, None]
        )
        assert overlaps.any() == (placement != "shared")
