"""Waiting goes on until the time has come, and looks up meanwhile."""

from spinbench.runtime.lanes import sleeping
from spinbench.runtime.lanes.sleeping import sleep_until


def test_it_ends_at_the_deadline_in_steps(monkeypatch):
    clock, naps = [10.0], []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(sleeping.time, "sleep", sleep)
    sleep_until(10.625, lambda: clock[0])
    assert naps == [0.25, 0.25, 0.125]
    sleep_until(10.5, lambda: clock[0])
    assert len(naps) == 3
