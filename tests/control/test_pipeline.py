"""Micro-batches and depths, without a loop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.depth import AdaptiveDepth
from spinbench.control.jobs.job import CatchUpJob, DraftJob, TokenSpans, VerifyJob
from spinbench.control.layout.plan import LayoutPlan
from spinbench.control.pipeline import MicroBatchPipeline, SerialPipeline, next_to_start, num_parts, share_of_batch
from spinbench.control.placement import Placement
from tests.control.contexts import context


def _parts(split, drafters, context_tokens, most):
    pipeline = MicroBatchPipeline(2, split, 16, 8, 8)
    seen = replace(context(len(drafters)), context_tokens=np.array(context_tokens))
    return [part.tolist() for part in pipeline.split(seen, np.array(drafters), most)]


def test_each_split_by_hand():
    drafters, tokens = [1, 0, 1, 0, -1], [50, 40, 30, 20, 10]
    assert _parts("by_drafter", drafters, tokens, 2) == [[1, 3, 4], [0, 2]]
    assert _parts("by_length", drafters, tokens, 2) == [[2, 3, 4], [0, 1]]
    assert _parts("round_robin", drafters, tokens, 2) == [[0, 2, 4], [1, 3]]
    assert _parts("by_drafter", [0, 1], [5, 5], 9) == [[0], [1]]


@given(
    split=st.sampled_from(["by_drafter", "by_length", "round_robin"]),
    drafters=st.lists(st.integers(-1, 3), min_size=1, max_size=12),
    most=st.integers(1, 15),
)
def test_a_split_is_a_partition_into_equal_parts(split, drafters, most):
    parts = _parts(split, drafters, [7 * place % 5 for place in range(len(drafters))], most)
    assert sorted(place for part in parts for place in part) == list(range(len(drafters)))
    sizes = [len(part) for part in parts]
    assert len(parts) == min(most, len(drafters))
    assert max(sizes) - min(sizes) <= 1


def test_serial_is_one_part():
    seen = context(3)
    assert [part.tolist() for part in SerialPipeline().split(seen, np.zeros(3, np.int64), 1)] == [[0, 1, 2]]


def test_shares_of_a_batch():
    assert [share_of_batch(8, depth) for depth in (1, 2, 3, 5, 8, 20)] == [8, 4, 3, 2, 1, 1]
    # 8 idle of 8 at depth 5 make 5; 2 of 8 at depth 5 make 1.25, so 2; 4 of 8 at depth 2 make 1
    assert [num_parts(8, 8, 5), num_parts(2, 8, 5), num_parts(4, 8, 2)] == [5, 2, 1]


def test_who_waited_longest_starts_first():
    last_round = np.array([5, 3, 9, -1, 3])
    assert next_to_start(np.array([0, 1, 2, 3, 4]), last_round, 3).tolist() == [1, 3, 4]
    assert next_to_start(np.array([2, 0]), last_round, 2).tolist() == [2, 0]


def _depths(
    rate_of, num_requests=8, num_rounds=3000, max_depth=16, running=lambda number: 8, tokens_of=lambda depth: 1
):
    """The depth after each round of a pipeline in which a request gets `rate_of(depth, time)` rounds a second."""
    control, clock_s, depths = AdaptiveDepth(max_depth, passes_per_trial=4, trials_per_probe=4), 0.0, []
    for number in range(num_rounds):
        size = share_of_batch(num_requests, control.depth)
        clock_s += size / (running(number) * rate_of(control.depth, clock_s))
        control.observe(clock_s, size, running(number), size * tokens_of(control.depth))
        depths.append(control.depth)
    return depths


@given(best=st.integers(1, 8), slope=st.floats(0.02, 0.5))
def test_the_depth_climbs_to_the_best_one(best, slope):
    depths = _depths(lambda depth, _: 1 / (1 + slope * abs(depth - best)))
    assert depths[0] == 1
    late = depths[len(depths) // 2 :]
    assert late.count(best) > 0.6 * len(late)
    assert set(late) <= {best - 1, best, best + 1}


def test_depths_are_compared_by_what_they_gain():
    # rounds come fewest at 3, but bring more than twice as many tokens there
    depths = _depths(lambda depth, _: 1 + 0.2 * abs(depth - 3), tokens_of=lambda depth: 5 if depth == 3 else 2)
    assert max(set(depths[-1000:]), key=depths[-1000:].count) == 3


def test_what_rounds_gain_is_remembered_from_trial_to_trial():
    control, clock_s = AdaptiveDepth(max_depth=1, passes_per_trial=1, trials_per_probe=4), 0.0
    for gain in (0, 30, 0, 10):  # of one request, of which every other round is to settle; each takes 1 s
        clock_s += 1
        control.observe(clock_s, 1, 1, gain)
    # a round a second, and (0.8 x 30 + 10) / 1.8 a round
    assert control._rates == {1: pytest.approx(34 / 1.8)}


def test_a_change_is_followed():
    depths = _depths(lambda depth, clock_s: 1 / (1 + 0.2 * abs(depth - (2 if clock_s < 500 else 5))), num_rounds=20_000)
    assert max(set(depths[-2000:]), key=depths[-2000:].count) == 5


def test_no_deeper_than_allowed_or_than_there_are_requests():
    assert max(_depths(lambda depth, _: float(depth), max_depth=3)) == 3
    assert max(_depths(lambda depth, _: float(depth))) == 8


def test_an_emptier_batch_is_no_worse_depth():
    # half of the requests leave: rounds per second fall, rounds per second and request do not
    depths = _depths(lambda depth, _: 1 / (1 + 0.2 * abs(depth - 3)), running=lambda number: 8 if number < 1500 else 4)
    assert max(set(depths[1600:]), key=depths[1600:].count) == 3


@pytest.mark.parametrize(
    ("kind", "devices"), [("shared", [0, 0, 0, 0]), ("drafters_together", [0, 1, 1, 1]), ("own_devices", [0, 1, 3, 3])]
)
def test_placements(kind, devices):
    spans = TokenSpans(np.array([0]), np.array([0]), np.array([1]))
    length, copies = np.array([1]), np.array([False])
    jobs = [
        VerifyJob(spans, LayoutPlan("packed", 0, 1, 0, 1, 1)), DraftJob(0, spans, length, copies, False),
        DraftJob(2, spans, length, copies, False), CatchUpJob(2, spans),
    ]  # fmt: skip
    placement = Placement(kind)
    assert [placement.device_of(job) for job in jobs] == devices
    assert max(devices) < placement.num_devices(3)
    assert placement.num_devices(0) == 1
