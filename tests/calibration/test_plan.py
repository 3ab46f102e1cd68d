"""What is timed: within the limits, and held-out points are others than the fitted ones."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.calibration.job_plan import timed_jobs
from spinbench.calibration.plan import ProfileLimits, pass_points
from spinbench.calibration.point import JobPoint, PassPoint
from spinbench.errors import UserError
from tests.calibration.made_profile import DRAFTERS

LIMITS = st.builds(
    ProfileLimits,
    max_num_seqs=st.integers(1, 40),
    max_context_tokens=st.integers(64, 3000),
    max_num_batched_tokens=st.just(64),
    max_num_speculative_tokens=st.integers(1, 10),
)


def all_jobs(limits: ProfileLimits) -> list[JobPoint]:
    jobs = timed_jobs(DRAFTERS, ["packed", "padded"], limits)
    return [point for timed in jobs for point in (timed.job, *timed.lead_in)]


@settings(max_examples=40, deadline=None)
@given(LIMITS)
def test_points_stay_within_the_limits(limits: ProfileLimits) -> None:
    for point in [*pass_points("m", True, ["packed", "padded"], limits), *all_jobs(limits)]:
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
            for point in pass_points("m", True, ["packed", "padded"], limits)
            if point.role == role
        }

    assert not shapes("fit") & shapes("held_out")

    def jobs(role: str) -> set[JobPoint]:
        jobs = [timed.job for timed in timed_jobs(DRAFTERS, ["packed", "padded"], limits)]
        return {replace(job, role="fit") for job in jobs if job.role == role}

    assert not jobs("fit") & jobs("held_out")


def test_every_lane_has_jobs_of_both_roles() -> None:
    jobs = all_jobs(ProfileLimits(8, 512, 512, 4))
    seen = {(job.kind, job.lane, job.layout, job.role) for job in jobs}
    for role in ("fit", "held_out"):
        assert ("prefill", "target", "", role) in seen
        assert {("verify", "target", layout, role) for layout in ("packed", "padded")} <= seen
        assert {("draft", drafter.name, "", role) for drafter in DRAFTERS} <= seen
        # the model behind a lookup is timed once
        assert [lane for kind, lane, _, r in sorted(seen) if (kind, r) == ("catch_up", role)] == ["small", "tiny"]


def test_a_verification_follows_the_draft_that_it_verifies() -> None:
    verifications = [
        (timed.lead_in[0], timed.job)
        for timed in timed_jobs(DRAFTERS, ["packed"], ProfileLimits(8, 512, 512, 4))
        if timed.job.kind == "verify" and timed.lead_in
    ]
    assert len(verifications) > 20
    for draft, verify in verifications:
        drafted = tuple(stop - start - 1 for start, stop in zip(verify.start_tokens, verify.stop_tokens, strict=True))
        assert drafted == draft.num_speculative_tokens
        assert tuple(start + 1 for start in verify.start_tokens) == draft.stop_tokens


def test_a_drafter_is_timed_after_the_target_has_run() -> None:
    for timed in timed_jobs(DRAFTERS, ["packed"], ProfileLimits(8, 512, 512, 4)):
        if timed.job.kind in ("draft", "catch_up"):
            assert [job.lane for job in timed.lead_in] == ["target"]


def test_without_drafters_plain_decoding_is_timed() -> None:
    kinds = {timed.job.kind for timed in timed_jobs((), ["packed"], ProfileLimits(8, 512, 512, 4))}
    assert kinds == {"prefill", "verify"}


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="max_num_seqs 1 x max_context_tokens 64 is room for 64 tokens"):
        ProfileLimits(1, 64, 65, 4)
