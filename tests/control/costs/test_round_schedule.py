"""How the parts of a round add up, counted by hand and against lanes that run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy import Environment

from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.round_schedule import BY_TURNS, RoundSchedule
from spinbench.control.placement import Placement
from spinbench.simulation.overlapping_lanes import OverlappingLanes
from tests.control.contexts import outcome

SLOWED = Overlap(target_alone=1.0, target_beside=1.5, drafter_alone=1.0, drafter_beside=2.0)
OWN, TOGETHER = Placement("own_devices"), Placement("drafters_together")


@settings(max_examples=30, deadline=None)
@given(
    factors=st.tuples(st.floats(1, 3), st.floats(1, 3), st.floats(1, 3), st.floats(1, 3)),
    drafter_s=st.floats(0.01, 10), target_s=st.floats(0.01, 10),
)  # fmt: skip
def test_both_lanes_are_done_when_they_are(factors, drafter_s, target_s):
    target_alone, target_more, drafter_alone, drafter_more = factors
    overlap = Overlap(target_alone, target_alone * target_more, drafter_alone, drafter_alone * drafter_more)
    environment = Environment()
    streams = OverlappingLanes(environment, overlap)
    for lane, duration_s in enumerate((target_s, drafter_s)):
        streams.submit(lane, duration_s, 0.0)
    environment.run()
    both_s = overlap.both_s(drafter_s * drafter_alone, target_s * target_alone)
    assert both_s == pytest.approx(environment.now)


def test_lanes_that_do_not_slow_each_other_take_the_longer_one():
    assert NOT_SLOWED.both_s(2.0, 3.0) == NOT_SLOWED.both_s(3.0, 2.0) == 3


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        (BY_TURNS, 4 + 10),
        (RoundSchedule(OWN), 4 + 10),
        # one device for all: micro-batches take turns
        (RoundSchedule(num_in_flight=2), 4 + 10),
        (RoundSchedule(OWN, num_in_flight=2), 10),
        # slowed, the draft takes 8, in which the target does 8 / 1.5 of its 10
        (RoundSchedule(TOGETHER, overlap=SLOWED, num_in_flight=1), 8 + 10 - 8 / 1.5),
        (RoundSchedule(OWN, drafts_ahead=True), 4 + 12),
        (RoundSchedule(drafts_ahead=True), 4 + 10 + 12),
        # slowed, the target takes 15, in which the drafter does 7.5 of 12
        (RoundSchedule(TOGETHER, drafts_ahead=True, overlap=SLOWED), 4 + 15 + 12 - 7.5),
    ],
)  # fmt: skip
def test_a_round_of_four_seconds_drafting_ten_verifying_and_twelve_ahead(schedule, seconds):
    assert schedule.round_s(4.0, 10.0, 12.0) == pytest.approx(seconds)


def test_several_drafters_take_the_sum_or_the_longest():
    assert [RoundSchedule(placement).together_s(2.0, 3.0) for placement in (TOGETHER, OWN)] == [5, 3]


def test_what_overlaps_nowhere_is_a_sum():
    assert BY_TURNS.is_sum
    assert RoundSchedule(TOGETHER, overlap=SLOWED).is_sum
    assert RoundSchedule(num_in_flight=3).is_sum
    assert not RoundSchedule(TOGETHER, num_in_flight=1).is_sum
    assert not RoundSchedule(OWN).is_sum
    assert not RoundSchedule(drafts_ahead=True).is_sum


def test_rounds_are_timed_by_the_slowest_drafter_where_all_draft_at_once():
    # 1 s of verification; a drafts 2 s for two requests, b 3 s for one
    done = outcome(range(3), [0, 0, 1], [1, 1, 1], [2.0, 2.0, 3.0])._replace(group_size=lambda: np.array([2, 2, 1]))
    schedules = {kind: RoundSchedule(Placement(kind)) for kind in ("shared", "drafters_together", "own_devices")}
    seconds = {kind: schedule.measured_s(done) for kind, schedule in schedules.items()}
    assert seconds == {"shared": 6, "drafters_together": 6, "own_devices": 4}
    ahead = done._replace(drafted_ahead=np.array([False, False, True]))
    assert [schedules[kind].measured_s(ahead) for kind in ("own_devices", "shared")] == [3, 3]
    # the draft that was made ahead was 2 s longer under way than the verification
    waited = ahead._replace(ahead_left_s=2.0)
    assert [schedules[kind].measured_s(waited) for kind in ("own_devices", "shared")] == [5, 5]
    # while other micro-batches are verified, the longer of drafting and verification counts
    others = done._replace(num_in_flight=1)
    assert [schedule.measured_s(others) for schedule in schedules.values()] == [6, 5, 3]
