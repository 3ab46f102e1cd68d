"""Threads that run jobs side by side."""

import threading
import time

import pytest
import torch

from spinbench.runtime.lanes.lane import Lanes, split_cores

CPU = torch.device("cpu")


@pytest.fixture
def lanes():
    made = Lanes([2, 1], CPU)
    yield made
    made.close()


def test_each_lane_has_threads_of_its_own(lanes):
    before = torch.get_num_threads()
    meet = threading.Barrier(2, timeout=10)

    def count() -> int:
        meet.wait()  # both lanes have begun, so neither number is the other's
        return torch.get_num_threads()

    for lane in (0, 1):
        lanes.submit(lane, lane, count)
    found = {ended.key: ended.result for ended in (lanes.next_end(None), lanes.next_end(None)) if ended}
    assert found == {0: 2, 1: 1}
    assert torch.get_num_threads() == before


def test_a_lane_keeps_the_order_and_ends_come_in_their_order(lanes):
    released = threading.Event()
    lanes.submit(0, "waits", lambda: released.wait(10))
    lanes.submit(0, "behind it", lambda: None)
    lanes.submit(1, "beside it", released.set)
    ends = [end for end in (lanes.next_end(None) for _ in range(3)) if end]
    names, times = [end.key for end in ends], [end.end_s for end in ends]
    assert names.index("waits") < names.index("behind it")
    assert times == sorted(times)
    starts = {end.key: end.start_s for end in ends}
    assert starts["beside it"] < times[names.index("waits")] <= starts["behind it"]


def test_what_ended_behind_the_deadline_comes_after_it(lanes):
    deadline_s = time.perf_counter()
    lanes.submit(0, "late", lambda: None)
    while not lanes._ended:
        time.sleep(0.001)
    # the end is there, and it is later than the deadline that the host asks for only now
    assert lanes.next_end(deadline_s) is None
    ended = lanes.next_end(None)
    assert ended is not None
    assert ended.end_s > deadline_s


def test_an_error_is_raised_where_the_end_is_asked_for(lanes):
    lanes.submit(1, "broken", lambda: [][0])
    with pytest.raises(IndexError):
        lanes.next_end(None)
    with pytest.raises(RuntimeError, match="no job in flight"):
        lanes.next_end(None)


def test_drain_forgets(lanes):
    for lane in (0, 1, 0):
        lanes.submit(lane, lane, lambda: None)
    lanes.drain()
    assert lanes.next_end(time.perf_counter()) is None


def test_cores_are_split():
    assert split_cores(16, 2, 4) == [12, 4]
    assert split_cores(16, 6, 1) == [11, 1, 1, 1, 1, 1]
    assert split_cores(2, 8, 1) == [1] * 8  # more lanes than cores: they share
