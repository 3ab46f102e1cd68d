"""The fit finds coefficients that are known, from fit rows alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.fitting.least_squares import named_nnls, relative_nnls
from spinbench.calibration.fitting.score import score_profile
from spinbench.calibration.profile.point import JobPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import Profile, ProfileTables
from spinbench.control.costs.cost_model import CostModel
from spinbench.errors import UserError
from tests.calibration.made_profile import LAYOUTS, NAMES, RECTANGLES, made_profile, retimed, true_costs


@pytest.fixture(scope="module")
def profile() -> Profile:
    return made_profile()


@pytest.fixture(scope="module")
def fitted(profile: Profile) -> CostModel:
    return fit_cost_model(profile, NAMES)


def test_passes_come_back_from_their_parts(fitted: CostModel) -> None:
    truth = true_costs()
    for found, true in ((fitted.target, truth.target), (fitted.drafters[0].model, truth.drafters[0].model)):
        assert found is not None
        assert true is not None
        for rows in (1, 7, 16, 100, 256):
            assert found.forward.of(rows) == pytest.approx(true.forward.of(rows))
        for rows in (1, 3, 4):
            assert found.head.of(rows) == pytest.approx(true.head.of(rows))
        assert vars_of(found.ragged) == pytest.approx(vars_of(true.ragged), rel=1e-3)
        for rows in (2, 16, 100, 128, 200, 256):
            assert found.ragged.whole.of(rows) == pytest.approx(true.ragged.whole.of(rows), rel=1e-3)
    rectangle = truth.target.rectangle["padded"]
    assert vars_of(fitted.target.rectangle["padded"]) == pytest.approx(vars_of(rectangle), rel=1e-3)


def vars_of(law: object) -> list[float]:
    """The coefficients of a law."""
    values = [getattr(law, name) for name in type(law).__slots__]  # type: ignore[attr-defined]
    return [value for value in values if isinstance(value, float)]


def test_jobs_are_predicted_to_the_held_out_points(profile: Profile) -> None:
    scores = score_profile(profile)
    assert {score.kind for score in scores if score.what == "job"} == {"prefill", "catch_up", "draft", "verify"}
    assert {score.kind for score in scores if score.what == "pass"} == {"none", *LAYOUTS}
    for score in scores:
        assert score.mape_percent < 0.1, score
        assert score.noise_percent == 0
        assert score.floor_percent == 0


def test_the_floor_is_what_a_perfect_model_scores_on_noisy_medians(profile: Profile) -> None:
    rng = np.random.default_rng(0)

    def timed(point: JobPoint, timing: Timing) -> Timing:
        noisy = point.role == "held_out"
        return Timing.of((timing.median_s * rng.normal(1, 0.1, 40)).tolist()) if noisy else timing

    jobs = [(point, timed(point, timing)) for point, timing in profile.tables.jobs]
    scores = score_profile(replace(profile, tables=replace(profile.tables, jobs=jobs)))
    many = [score for score in scores if score.what == "job" and score.num_points >= 24]
    assert many
    for score in many:
        assert score.floor_percent == pytest.approx(score.mape_percent, rel=0.35), score


def test_host_time_of_lookups_and_gaps_come_back(fitted: CostModel) -> None:
    lookup = fitted.drafters[NAMES.index("prompt_lookup")].lookup
    assert lookup is not None
    assert lookup[1:3] == pytest.approx((3e-5, 1e-5))
    draft = fitted.drafters[0].draft
    assert draft is not None
    assert draft == pytest.approx((1.0, 2e-4, 3e-5, 4e-5), rel=1e-3)
    assert fitted.gaps["verify"] == pytest.approx((1e-4, 2e-5))
    # a microsecond to fetch a job that waited is not what the loop takes after a draft
    assert fitted.gaps["draft"] == pytest.approx((5e-5, 1e-5))


def test_passes_that_cost_more_inside_a_job_have_a_factor(profile: Profile) -> None:
    dearer = retimed(profile, lambda point: 1.2 if isinstance(point, JobPoint) and point.kind == "verify" else 1.0)
    costs = fit_cost_model(dearer, NAMES)
    assert costs.verify["packed"].pass_factor == pytest.approx(1.2, abs=0.03)
    assert costs.prefill.pass_factor == pytest.approx(1.0, abs=0.01)
    for score in score_profile(dearer):
        assert score.mape_percent < 2, score


def test_held_out_points_are_never_fitted(profile: Profile, fitted: CostModel) -> None:
    spoilt = retimed(profile, lambda point: 3.0 if point.role == "held_out" else 1.0)
    assert fit_cost_model(spoilt, NAMES) == fitted
    scores = [score for score in score_profile(spoilt) if score.what == "job"]
    # predicted a third of what they took now: two thirds too short
    assert {round(score.bias_percent) for score in scores} == {-67}
    assert {round(score.mape_percent) for score in scores} == {67}


def test_fitted_points_are_never_scored(profile: Profile) -> None:
    held_out = sum(point.role == "held_out" for point, _ in profile.tables.jobs)
    scored = [score.num_points for score in score_profile(profile) if (score.what, score.lane) == ("job", "all")]
    assert sum(scored) == held_out


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_makes_nothing_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = made_profile(noise=lambda point: float(rng.uniform(0.5, 2.0)))
    costs = fit_cost_model(profile, NAMES)
    for cost in (costs.target, *(drafter.model for drafter in costs.drafters if drafter.model is not None)):
        assert min(vars_of(cost.ragged)) >= 0
        assert list(cost.forward.seconds) == sorted(cost.forward.seconds)
        assert list(cost.ragged.whole.seconds) == sorted(cost.ragged.whole.seconds)
        assert cost.head.of(1) == 0
    for job in (costs.prefill, *costs.verify.values(), *(d.draft for d in costs.drafters if d.draft is not None)):
        assert min(job) >= 0


def test_a_run_takes_the_drafters_that_it_names(profile: Profile, fitted: CostModel) -> None:
    costs = fit_cost_model(profile, ["tiny", "prompt_lookup"])
    assert [drafter.name for drafter in costs.drafters] == ["tiny", "prompt_lookup"]
    assert costs.drafters[0] == fitted.drafters[NAMES.index("tiny")]
    with pytest.raises(UserError, match="no drafter 'large'; it has small, prompt_lookup, small"):
        fit_cost_model(profile, ["large"])


def test_a_drafter_profiled_behind_a_lookup_only(profile: Profile, fitted: CostModel) -> None:
    costs = fit_cost_model(profile, ["small+prompt_lookup"])
    assert costs.drafters[0] == fitted.drafters[NAMES.index("small+prompt_lookup")]


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ("forward", "made/passes.csv: no rows of model 'target' with attention none"),
        ("packed", "made/passes.csv: no rows of model 'small' with attention packed"),
        ("prefill", "made/jobs.csv: no prefill rows"),
        ("draft", "made/jobs.csv: no draft rows of lane 'tiny'"),
    ],
)
def test_what_the_tables_lack_is_named(profile: Profile, dropped: str, message: str) -> None:
    def without(tables: ProfileTables) -> ProfileTables:
        kept_passes = [
            (point, timing)
            for point, timing in tables.passes
            if not (dropped == "forward" and point.attention == "none" and point.model == "target")
            and not (dropped == "packed" and point.attention == "packed" and point.model == "small")
        ]
        kept_jobs = [
            (point, timing)
            for point, timing in tables.jobs
            if point.kind != dropped or (dropped == "draft" and point.lane != "tiny")
        ]
        return replace(tables, passes=tuple(kept_passes), jobs=tuple(kept_jobs))

    with pytest.raises(UserError, match=message):
        fit_cost_model(replace(profile, tables=without(profile.tables)), NAMES)


def test_relative_least_squares_weighs_small_values_as_much() -> None:
    # 1 and 100 are both met exactly only with two coefficients; with one, 2 % of either counts alike
    assert relative_nnls([[1.0], [1.0]], [1.0, 100.0], [1.0, 100.0])[0] == pytest.approx(1.0099, abs=1e-3)
    assert relative_nnls([[1.0, 1.0], [1.0, 2.0]], [1.0, 0.5], [1.0, 0.5])[1] == 0


def test_an_expected_coefficient_is_kept_where_rows_say_nothing() -> None:
    # two names that always come together: only their sum shows
    rows = [({"a": 1.0, "b": 1.0}, 3.0), ({"a": 2.0, "b": 2.0}, 6.0)]
    assert named_nnls(rows, {"a": 1.0}) == pytest.approx({"a": 1.0, "b": 2.0})
    # one that rows contradict gives way, more so the more rows there are
    few, many = (named_nnls([({"a": 1.0}, 2.0)] * count, {"a": 1.0})["a"] for count in (2, 200))
    assert 1 < few < many < 2
    assert many == pytest.approx(2, abs=0.01)


def test_a_pass_point_knows_its_rows() -> None:
    assert PassPoint("m", "packed", "fit", (3, 0), (5, 4), 1).num_rows == 6
    # every request as wide as the widest
    assert PassPoint("m", "padded", "fit", (3, 0), (5, 4), 1).num_rows == 8


def test_what_is_merged_comes_back(fitted: CostModel) -> None:
    for layout, law in RECTANGLES.items():
        assert vars_of(fitted.target.rectangle[layout]) == pytest.approx(vars_of(law), rel=1e-2, abs=1e-9), layout


def test_groups_follow_from_padded_and_pieces_do_not(profile: Profile) -> None:
    def without(*layouts: str) -> CostModel:
        tables = profile.tables
        kept = replace(
            tables,
            passes=tuple(row for row in tables.passes if row[0].attention not in layouts),
            jobs=tuple(row for row in tables.jobs if row[0].layout not in layouts),
        )
        return fit_cost_model(replace(profile, tables=kept), NAMES)

    costs = without("grouped", "decomposed")
    assert costs.target.rectangle["grouped"] == costs.target.rectangle["padded"]
    assert costs.verify["grouped"] == costs.verify["padded"]
    assert "decomposed" not in costs.target.rectangle
    with pytest.raises(UserError, match="no verify jobs of layout decomposed; it has packed, padded, grouped"):
        costs.verify_s(2, 3, 50.0, "decomposed")
    assert "grouped" not in without("padded", "grouped").target.rectangle
    # two groups pay for two rectangles
    one, two = (
        costs.job_s(JobPoint("verify", "target", "grouped", "fit", (59, 29), (64, 34), (), (), window).job())
        for window in (30, 0)
    )
    law, factor = costs.target.rectangle["grouped"], costs.verify["grouped"].pass_factor
    # 5 rows x 30 keys less, one rectangle more
    assert two - one == pytest.approx(factor * (law.rectangle_s - 30 * law.key_s - 150 * law.cell_s), abs=1e-9)
