"""What the machine did meanwhile is taken out of timings, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.calibration.measuring.pace import at_common_pace

SECONDS = {f"p{place}": 0.001 * 1.5**place for place in range(30)}


def drifting(seed: int, sweeps: int, slow_after: int, leaves: dict[str, int]) -> list[tuple[str, float]]:
    """All points once a sweep, but for those that leave; 1.5 times as slow after some sweeps; 3 % noise."""
    rng = np.random.default_rng(seed)
    history = []
    for sweep in range(sweeps):
        pace = 1.5 if sweep >= slow_after else 1.0
        for name in rng.permutation(list(SECONDS)).tolist():
            if sweep < leaves.get(name, sweeps):
                history.append((name, SECONDS[name] * pace * float(np.exp(rng.normal(0, 0.03)))))
    return history


def test_a_point_that_leaves_early_is_told_as_if_it_had_stayed() -> None:
    leaves = {"p3": 4, "p20": 3}
    history = drifting(0, sweeps=12, slow_after=4, leaves=leaves)
    paced = at_common_pace(history)
    found = {name: float(np.median(paced.seconds[name])) for name in SECONDS}
    # four sweeps at 1, eight at 1.5: 16 / 12 in the mean
    for name, seconds in SECONDS.items():
        assert found[name] == pytest.approx(16 / 12 * seconds, rel=0.06), name
    # by themselves these two would look a quarter too fast
    alone = [seconds for name, seconds in history if name == "p3"]
    assert np.median(alone) == pytest.approx(SECONDS["p3"], rel=0.06)
    assert (paced.p10, paced.p90) == pytest.approx((12 / 16, 18 / 16), rel=0.05)


def test_a_steady_machine_changes_no_timing() -> None:
    history = [(name, seconds) for _ in range(5) for name, seconds in SECONDS.items()]
    paced = at_common_pace(history)
    for name, seconds in SECONDS.items():
        assert paced.seconds[name] == pytest.approx([seconds] * 5)
    assert (paced.p10, paced.p90) == (1, 1)


def test_one_slow_timing_is_noise_not_pace() -> None:
    history = [(name, seconds) for _ in range(5) for name, seconds in SECONDS.items()]
    name, seconds = history[70]
    history[70] = (name, 3 * seconds)
    paced = at_common_pace(history)
    assert sorted(paced.seconds[name]) == pytest.approx([*[seconds] * 4, 3 * seconds])
    assert sum(len(timings) for timings in paced.seconds.values()) == len(history)


@given(seed=st.integers(0, 999), factor=st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_another_unit_changes_the_unit(seed: int, factor: float) -> None:
    history = drifting(seed, sweeps=3, slow_after=2, leaves={"p1": 1})
    paced = at_common_pace(history)
    scaled = at_common_pace([(name, factor * seconds) for name, seconds in history])
    for name, timings in paced.seconds.items():
        assert scaled.seconds[name] == pytest.approx([factor * seconds for seconds in timings])


def test_nothing_has_no_pace() -> None:
    with pytest.raises(ValueError, match="no timing"):
        at_common_pace([])
