"""Jobs of a profile timed again on tiny models."""

from pathlib import Path

import numpy as np
import pytest

from spinbench.calibration.bench import Bench
from spinbench.calibration.pace_check import PaceCheck, read_pace, write_pace
from spinbench.control.drafter import DrafterInfo
from spinbench.errors import UserError
from spinbench.metrics.drift import time_factors
from spinbench.metrics.validation import JobsCompared
from spinbench.runtime.sampler import Sampling
from tests.calibration.made_profile import DRAFTERS, LIMITS, made_profile
from tests.runtime.tiny_models import drafters, target


@pytest.fixture(scope="module")
def bench() -> Bench:
    served = target("llama")
    model = drafters(served)[0]
    lanes = [
        (about, DrafterInfo(about.name, about.kind, min_match_tokens=1), model if about.model else None)
        for about in DRAFTERS[:3]
    ]
    return Bench(served, lanes, Sampling(), LIMITS)


def test_only_jobs_that_matter_are_timed_and_all_of_these_in_the_end(bench: Bench) -> None:
    wanted = {("verify", "target"), ("draft", "small"), ("draft", "prompt_lookup"), ("catch_up", "small")}
    profile = made_profile(lambda point: 1e3)  # every job takes seconds
    check = PaceCheck(profile, wanted)
    first = check.run(bench, 1e-9)
    assert {*first.kind} == {"verify", "draft", "catch_up"}  # a turn
    assert 3 <= len(first.real_s) <= 5
    both = first.followed_by(check.run(bench, 1.0))
    assert {*zip(both.kind, both.lane, strict=True)} == wanted
    known = {timing.mean_s for _, timing in profile.tables.jobs}
    assert known.issuperset(both.expected_s.tolist())
    assert (both.real_s > 0).all()
    factors = time_factors([both])
    assert factors.keys() == wanted
    assert max(factors.values()) < 1  # none does


def test_a_profile_of_other_jobs_has_none_to_check(bench: Bench) -> None:
    assert not PaceCheck(made_profile(), {("verify", "another")}).run(bench, 1.0).kind


def test_what_was_found_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pace.csv"
    assert read_pace(path) is None
    write_pace(path, JobsCompared(("verify", "draft"), ("target", "small"), np.array([1.5, 0.1]), np.array([1.0, 0.2])))
    found = read_pace(path)
    assert found is not None
    assert time_factors([found]) == {("verify", "target"): 1.5, ("draft", "small"): 0.5}
    path.write_text("kind,lane\nverify,target\n")
    with pytest.raises(UserError, match=r"pace.csv: cannot be read as what a pace check found: 'real_s'; delete it"):
        read_pace(path)
