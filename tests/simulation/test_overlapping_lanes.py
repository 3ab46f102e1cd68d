"""Two lanes of one device: what a job takes beside another, counted by hand."""

import pytest
from simpy import Environment

from spinbench.control.costs.overlap import Overlap
from spinbench.simulation.overlapping_lanes import OverlappingLanes

SLOW = Overlap(target_alone=1.0, target_beside=1.5, drafter_alone=1.0, drafter_beside=2.0)
NO_LOSS = Overlap(1.0, 1.0, 1.0, 1.0)
CORES_APART = Overlap(target_alone=2.0, target_beside=2.0, drafter_alone=4.0, drafter_beside=4.0)


def ends(overlap: Overlap, *jobs: tuple[int, float, float]) -> list[tuple[float, float]]:
    """Start and end of each job, given as lane, seconds alone and the earliest start, all submitted at 0."""
    environment = Environment()
    streams = OverlappingLanes(environment, overlap)
    found: list[tuple[float, float]] = [(-1.0, -1.0)] * len(jobs)

    def note(place: int):
        def ended(event):
            found[place] = (event.value, environment.now)

        return ended

    for place, job in enumerate(jobs):
        event = streams.submit(*job)
        assert event.callbacks is not None
        event.callbacks.append(note(place))
    environment.run()
    return found


def test_a_job_is_slower_as_long_as_another_runs():
    # the draft takes 2 x 4 = 8; by then the target has done 8 / 1.5 of its 10, and does the rest alone
    (target, draft) = ends(SLOW, (0, 10.0, 0.0), (1, 4.0, 0.0))
    assert draft == (0.0, pytest.approx(8.0))
    assert target == (0.0, pytest.approx(8.0 + 10.0 - 8.0 / 1.5))


def test_what_comes_later_slows_what_is_under_way():
    # the target is alone for 6 of its 10; then beside a draft: the rest takes 4 x 1.5, of the draft 3 of 5 are done
    (target, draft) = ends(SLOW, (0, 10.0, 0.0), (1, 5.0, 6.0))
    assert target == (0.0, pytest.approx(12.0))
    assert draft == (6.0, pytest.approx(12.0 + 2.0))


def test_a_lane_does_one_job_at_a_time():
    assert ends(NO_LOSS, (0, 2.0, 0.0), (0, 3.0, 0.0), (1, 4.0, 0.0)) == [(0.0, 2.0), (2.0, 5.0), (0.0, 4.0)]


def test_with_the_cores_parted_a_job_alone_is_slower_too():
    assert ends(CORES_APART, (0, 2.0, 0.0), (1, 3.0, 0.0)) == [(0.0, 4.0), (0.0, 12.0)]
