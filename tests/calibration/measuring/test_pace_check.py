"""Jobs of a profile timed again on tiny models."""

from pathlib import Path

import numpy as np
import pytest

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.measuring.pace_check import PaceCheck, read_pace, write_pace
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.errors import UserError
from spinbench.metrics.drift import time_factors
from spinbench.metrics.validation import JobsCompared
from spinbench.runtime.sampling.sampler import Sampling
from tests.calibration.made_profile import DRAFTERS, LIMITS, NAMES, made_profile
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
    drafts = {("draft", "small"): 1.0, ("draft", "prompt_lookup"): 1.0}
    wanted = {("verify", "target"): 1.0, **drafts, ("catch_up", "small+prompt_lookup"): 1.0}
    profile = made_profile(lambda point: 1e3)  # every job takes seconds
    check = PaceCheck(profile, NAMES, wanted)
    first = check.run(bench, 1e-9)
    assert {*first.kind} == {"verify", "draft", "catch_up"}  # each once
    assert 3 <= len(first.real_s) <= 5
    both = first.followed_by(check.run(bench, 1.0))
    assert {*zip(both.kind, both.lane, strict=True)} == wanted.keys()
    known = {timing.mean_s for _, timing in profile.tables.jobs}
    assert known.issuperset(both.expected_s.tolist())
    assert (both.real_s > 0).all()
    factors = time_factors([both])
    assert factors.keys() == wanted.keys()
    assert max(factors.values()) < 1  # none does


def test_a_kind_gets_its_share_of_the_time(bench: Bench) -> None:
    found = PaceCheck(made_profile(), NAMES, {("verify", "target"): 1.0, ("draft", "small"): 1e-9}).run(bench, 0.5)
    assert found.kind.count("draft") <= 2  # the first group
    assert found.kind.count("verify") > 2


def test_verifications_of_drafts_that_nobody_makes_are_left_out(bench: Bench) -> None:
    found = PaceCheck(made_profile(), ["tiny"], {("verify", "target"): 1.0}).run(bench, 0.3)
    assert {*found.kind} == {"verify"}  # steps of plain decoding


def test_a_profile_of_other_jobs_has_none_to_check(bench: Bench) -> None:
    check = PaceCheck(made_profile(), NAMES, {("verify", "another"): 1.0})
    with pytest.raises(UserError, match=r"measured by another version, .* profile anew"):
        check.run(bench, 1.0)


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
