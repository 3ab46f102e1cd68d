"""Jobs cost what they take in the mean, though the fit is to medians."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.fitting.interruptions import mean_over_median
from spinbench.calibration.fitting.score import score_profile
from spinbench.calibration.profile.point import JobPoint, Timing
from spinbench.calibration.profile.profile_file import Profile
from tests.calibration.made_profile import NAMES, made_profile


def with_means(profile: Profile, factor: Callable[[JobPoint], float]) -> Profile:
    jobs = tuple((point, replace(t, mean_s=factor(point) * t.median_s)) for point, t in profile.tables.jobs)
    return replace(profile, tables=replace(profile.tables, jobs=jobs))


def test_points_with_more_repeats_count_more() -> None:
    # (3 x 2 + 1 x 1) / (3 + 1)
    assert mean_over_median([Timing(3, 1.0, 1.0, 2.0, 2.0), Timing(1, 4.0, 4.0, 4.0, 4.0)]) == 1.75


def test_a_kind_of_jobs_is_longer_by_its_own_points() -> None:
    profile = made_profile()
    usual = fit_cost_model(profile, NAMES)
    longer = fit_cost_model(with_means(profile, lambda point: 1.25 if point.kind == "draft" else 1.0), NAMES)
    assert (longer.prefill, longer.verify, longer.target) == (usual.prefill, usual.verify, usual.target)
    for before, after in zip(usual.drafters, longer.drafters, strict=True):
        assert after.catch_up == before.catch_up
        assert after.model == before.model
        for old, new in ((before.draft, after.draft), (before.lookup, after.lookup)):
            assert (old is None) == (new is None)
            if old is not None and new is not None:
                assert new == pytest.approx([1.25 * value for value in old])


def test_a_held_out_point_lengthens_nothing_and_medians_are_held_against_medians() -> None:
    profile = made_profile()
    noisy = with_means(profile, lambda point: 3.0 if point.role == "held_out" else 1.0)
    assert fit_cost_model(noisy, NAMES) == fit_cost_model(profile, NAMES)
    longer = with_means(profile, lambda point: 1.25)
    assert fit_cost_model(longer, NAMES) != fit_cost_model(profile, NAMES)
    assert [score.mape_percent for score in score_profile(longer)] == pytest.approx(
        [score.mape_percent for score in score_profile(profile)]
    )
