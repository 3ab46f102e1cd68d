"""What is timed: within the limits, and held-out points are others than the fitted ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.calibration.profile.job_plan import job_groups
from spinbench.calibration.profile.plan import ProfileLimits, pass_points
from spinbench.calibration.profile.point import JobPoint, PassPoint
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.errors import UserError
from tests.calibration.made_profile import DRAFTERS, LAYOUTS

LIMITS = st.builds(
    ProfileLimits,
    max_num_seqs=st.integers(1, 40),
    max_context_tokens=st.integers(64, 3000),
    max_num_batched_tokens=st.just(64),
    max_num_speculative_tokens=st.integers(1, 10),
)


def all_jobs(limits: ProfileLimits) -> list[JobPoint]:
    groups = job_groups(DRAFTERS, LAYOUTS, limits)
    return [job for group in groups for job in (*group.jobs, *group.lead_in)]


@settings(max_examples=40, deadline=None)
@given(LIMITS)
def test_points_stay_within_the_limits(limits: ProfileLimits) -> None:
    for point in [*pass_points("m", True, LAYOUTS, limits), *all_jobs(limits)]:
        assert 1 <= len(point.stop_tokens) <= limits.max_num_seqs
        assert max(point.stop_tokens) <= limits.max_context_tokens
        assert all(0 <= start <= stop for start, stop in zip(point.start_tokens, point.stop_tokens, strict=True))
        if isinstance(point, PassPoint):
            assert 1 <= point.num_rows <= limits.max_rows
            assert 1 <= point.num_head_rows <= limits.max_head_rows
        elif point.kind == "prefill":
            assert sum(point.stop_tokens) <= limits.max_num_batched_tokens
        elif point.kind == "draft":
            assert all(1 <= length <= limits.max_num_speculative_tokens for length in point.num_speculative_tokens)


@settings(max_examples=40, deadline=None)
@given(LIMITS)
def test_no_held_out_point_is_fitted(limits: ProfileLimits) -> None:
    def shapes(role: str) -> set[tuple[object, ...]]:
        return {
            (point.attention, point.start_tokens, point.stop_tokens, point.num_head_rows)
            for point in pass_points("m", True, LAYOUTS, limits)
            if point.role == role
        }

    assert not shapes("fit") & shapes("held_out")

    def jobs(role: str) -> set[JobPoint]:
        jobs = [job for group in job_groups(DRAFTERS, LAYOUTS, limits) for job in group.jobs]
        assert len(set(jobs)) == len(jobs)
        return {replace(job, role="fit") for job in jobs if job.role == role}

    assert not jobs("fit") & jobs("held_out")


def test_every_lane_has_jobs_of_both_roles() -> None:
    jobs = all_jobs(ProfileLimits(8, 512, 512, 4))
    seen = {(job.kind, job.lane, job.layout, job.role) for job in jobs}
    for role in ("fit", "held_out"):
        assert ("prefill", "target", "", role) in seen
        assert {("verify", "target", layout, role) for layout in LAYOUTS} <= seen
        assert {("draft", drafter.name, "", role) for drafter in DRAFTERS} <= seen
        # the model behind a lookup is timed once
        assert [lane for kind, lane, _, r in sorted(seen) if (kind, r) == ("catch_up", role)] == ["small", "tiny"]


def test_a_verification_follows_the_draft_that_it_verifies() -> None:
    verifications = [
        (group.lead_in[0], group.jobs[0])
        for group in job_groups(DRAFTERS, ["packed"], ProfileLimits(8, 512, 512, 4))
        if group.jobs[0].kind == "verify" and group.lead_in
    ]
    assert len(verifications) > 20
    for draft, verify in verifications:
        drafted = tuple(stop - start - 1 for start, stop in zip(verify.start_tokens, verify.stop_tokens, strict=True))
        assert drafted == draft.num_speculative_tokens
        assert tuple(start + 1 for start in verify.start_tokens) == draft.stop_tokens


def test_a_drafter_is_timed_after_the_target_and_no_model_twice_in_a_row() -> None:
    model_of = {drafter.name: drafter.model for drafter in DRAFTERS}
    groups = job_groups(DRAFTERS, ["packed"], ProfileLimits(16, 512, 512, 4))
    drafting = [group for group in groups if group.jobs[0].kind in ("draft", "catch_up")]
    # the model behind a lookup in groups of its own
    assert {tuple(job.lane for job in group.jobs) for group in drafting} == {
        ("prompt_lookup", "small", "tiny"), ("small+prompt_lookup",), ("small", "tiny"),
    }  # fmt: skip
    for group in drafting:
        assert [job.lane for job in group.lead_in] == ["target"]
        models = [model_of[job.lane] for job in group.jobs]
        assert len(set(models)) == len(models)


def test_a_catch_up_has_more_tokens_than_a_draft_takes_in_by_itself() -> None:
    for job in all_jobs(ProfileLimits(8, 512, 512, 4)):
        if job.kind == "catch_up":
            assert min(np.subtract(job.stop_tokens, job.start_tokens)) >= MAX_UNSEEN_TOKENS


@pytest.mark.parametrize("max_num_seqs", [4, 8, 32])
def test_few_jobs_are_spread_over_what_there_may_be(max_num_seqs: int) -> None:
    """Those of a single request, of which there are three to six: short and long, few and many tokens, both kinds."""
    jobs = [job for job in all_jobs(ProfileLimits(max_num_seqs, 512, 512, 8)) if job.role == "fit"]
    for lane in ("small", "small+prompt_lookup"):
        single = [job for job in jobs if (job.kind, job.lane, len(job.stop_tokens)) == ("draft", lane, 1)]
        stops = {job.stop_tokens[0] for job in single}
        assert min(stops) < 60
        assert max(stops) > 100
        lengths = {job.num_speculative_tokens[0] for job in single}
        assert max(lengths) - min(lengths) >= 3
        assert {bool(job.by_lookup[0]) for job in single} == ({False} if lane == "small" else {False, True})
    for lane in ("small", "tiny"):
        own = [job for job in jobs if (job.kind, job.lane) == ("catch_up", lane)]
        rows = [sum(job.stop_tokens) - sum(job.start_tokens) for job in own]
        assert min(rows) < 120
        assert max(rows) > 250
        assert {start > 0 for job in own for start in job.start_tokens} == {False, True}


def test_without_drafters_plain_decoding_is_timed() -> None:
    groups = job_groups((), ["packed"], ProfileLimits(8, 512, 512, 4))
    assert {job.kind for group in groups for job in group.jobs} == {"prefill", "verify"}


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="max_num_seqs 1 x max_context_tokens 64 is room for 64 tokens"):
        ProfileLimits(1, 64, 65, 4)
