"""Whole measurements on tiny models: every point is timed, an interrupted profile goes on, nothing is left changed."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.measuring import bench as bench_module
from spinbench.calibration.measuring.bench import Bench, attention_left_out
from spinbench.calibration.measuring.gaps import span_gaps_s
from spinbench.calibration.measuring.measure import UNSURE_POINT_S, VISITS, MeasurePlan, measure, pace_of
from spinbench.calibration.profile.job_plan import JobGroup, job_groups
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.partial import PartialProfile, point_key
from spinbench.calibration.profile.plan import ProfileLimits, pass_points
from spinbench.calibration.profile.point import GapPoint, JobPoint, PassPoint, Timing
from spinbench.calibration.profile.profile_file import Profile
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.records.span_record import SpanColumns, SpanRecord
from spinbench.errors import UserError
from spinbench.models.load import TargetModel
from spinbench.runtime.graphs import replay as replay_module
from spinbench.runtime.graphs.capture import Captured
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.sampling.sampler import Sampling
from tests.calibration.made_profile import LAYOUTS, meta
from tests.runtime.tiny_models import QUICK, drafters, target

LIMITS = ProfileLimits(3, 64, 64, 2)
METAS = (
    DrafterMeta(name="good", kind="model", model="good"),
    DrafterMeta(name="small_vocabulary", kind="model", model="small_vocabulary"),
    DrafterMeta(name="prompt_lookup", kind="prompt_lookup", model=None),
    DrafterMeta(name="good+prompt_lookup", kind="lookup_then_model", model="good"),
)
MODELS = (QUICK, "good", "small_vocabulary")
INFOS = tuple(DrafterInfo(meta.name, meta.kind, min_match_tokens=1) for meta in METAS)


@pytest.fixture(scope="module")
def tiny_target() -> TargetModel:
    return target()


@pytest.fixture(scope="module")
def bench(tiny_target: TargetModel) -> Bench:
    models = {model.name: model for model in drafters(tiny_target)}
    lanes = [(meta, info, models[meta.model] if meta.model else None) for meta, info in zip(METAS, INFOS, strict=True)]
    return Bench(tiny_target, lanes, Sampling(), LIMITS)


@pytest.fixture(scope="module")
def plan() -> MeasurePlan:
    passes = [pass_points(name, name == QUICK, LAYOUTS, LIMITS) for name in MODELS]
    groups = job_groups(METAS, LAYOUTS, LIMITS)
    return MeasurePlan(tuple(tuple(points) for points in passes), tuple(groups), INFOS, LIMITS, repeats=2)


def test_every_point_is_timed_and_the_model_fits(bench: Bench, plan: MeasurePlan, tmp_path: Path) -> None:
    plan = replace(plan, repeats=1)
    partial = PartialProfile(tmp_path, {"dtype": "float64"})
    told: list[tuple[str, int, int]] = []
    tables = measure(bench, plan, partial, lambda *progress: told.append(progress))
    assert [point for point, _ in tables.passes] == [point for points in plan.passes for point in points]
    assert [point for point, _ in tables.jobs] == [job for group in plan.groups for job in group.jobs]
    assert all(timing.repeats == 1 for _, timing in tables.passes)
    kinds = {(point.kind, point.next_kind) for point, _ in tables.gaps}
    assert {("prefill", "catch_up"), ("draft", "verify"), ("verify", "draft")} <= kinds
    assert {label for label, _, _ in told} == {
        f"passes of {QUICK}",
        "passes of good",
        "passes of small_vocabulary",
        "jobs",
        "serving loop",
    }
    assert told[-1][1] == told[-1][2] == plan.num_timings

    about = meta(tables).model_copy(
        update={
            "target": QUICK,
            "models": tuple(meta(tables).models[0].model_copy(update={"name": name}) for name in MODELS),
            "drafters": METAS,
        }
    )
    costs = fit_cost_model(Profile(about, tables), [drafter.name for drafter in METAS])
    ratios = [costs.job_s(point.job()) / timing.median_s for point, timing in tables.jobs if point.lane == "target"]
    # timings of milliseconds on a busy machine: right in size, which sums over the wrong passes would not be
    assert 0.05 < np.median(ratios) < 20


def test_an_interrupted_measurement_goes_on(bench: Bench, plan: MeasurePlan, tmp_path: Path) -> None:
    plan = replace(plan, passes=plan.passes[:1], groups=plan.groups[:4])  # some of all
    partial = PartialProfile(tmp_path, {"dtype": "float64"})

    def interrupt(label: str, done: int, total: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(bench, plan, partial, interrupt)
    partial.close()
    lines = (tmp_path / "unfinished.csv").read_text().splitlines()
    assert len(lines) == 40
    # killed while a line was written
    (tmp_path / "unfinished.csv").write_text("\n".join(lines) + "\n0123,0.0")

    partial = PartialProfile(tmp_path, {"dtype": "float64"})
    assert partial.num_timings == 40
    first = {key: partial.seconds(key)[0] for key in partial.keys_with("")}
    tables = measure(bench, plan, partial, None)
    assert all(partial.seconds(key)[0] == seconds for key, seconds in first.items())
    assert all(timing.repeats == 2 for _, timing in tables.passes)
    partial.remove()
    assert not list(tmp_path.iterdir())


def test_only_what_is_unsure_is_timed_further(
    bench: Bench, plan: MeasurePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass jumps between two times, one takes so long that it is given up; all else is steady."""
    unsure, slow = plan.passes[0][3], plan.passes[0][4]
    times = itertools.cycle([1.0, 2.0])

    def visit_s(bench: Bench, point: PassPoint) -> float:
        return next(times) if point == unsure else UNSURE_POINT_S if point == slow else 1.0

    def steady(bench: Bench, group: JobGroup, wanted: Sequence[JobPoint], partial: PartialProfile) -> None:
        for job in wanted:
            partial.add(point_key(job), 0.01)

    monkeypatch.setattr("spinbench.calibration.measuring.measure._visit_s", visit_s)
    monkeypatch.setattr("spinbench.calibration.measuring.measure._time_group", steady)
    told: list[tuple[str, int, int]] = []
    more = replace(plan, precision=0.01, max_repeats=6)
    tables = measure(bench, more, PartialProfile(tmp_path, {}), lambda *progress: told.append(progress))
    # 1 2 1 2 1 2 s: six timings, of 9 s; never surer than sqrt(pi / 2 / 6) x (2 - 1) / 2.5632 / 1.5 = 0.13
    assert {point: timing.repeats for point, timing in tables.passes if timing.repeats != 2} == {unsure: 6}
    assert all(timing.repeats == 2 * VISITS.get(point.kind, 1) for point, timing in tables.jobs)
    assert told[-1][1] == told[-1][2]


def test_timings_of_another_setting_are_not_mixed_in(tmp_path: Path) -> None:
    PartialProfile(tmp_path, {"dtype": "float64", "threads": 1}).close()
    with pytest.raises(UserError, match=r"unfinished.json: an unfinished profile with another dtype is here"):
        PartialProfile(tmp_path, {"dtype": "float32", "threads": 1})


def test_a_pass_without_attention_is_the_model_itself_afterwards(bench: Bench, tiny_target: TargetModel) -> None:
    bench.begin()
    verify = JobPoint("verify", "target", "packed", "fit", (9,), (10,), (), ())

    def result() -> np.ndarray:
        bench.body.submit(verify.job())
        done = bench.body.next_event(None)
        assert done is not None
        return done.result.token_ids  # type: ignore[union-attr]

    bench.job_s(JobPoint("prefill", "target", "", "fit", (0,), (10,), (), ()))
    before = result()
    assert bench.pass_s(PassPoint(QUICK, "none", "fit", (0,), (5,), 1)) > 0
    np.testing.assert_array_equal(result(), before)


def test_attention_is_left_out_inside_and_back_outside() -> None:
    from transformers import AttentionInterface

    from spinbench.runtime.forward.attention import ATTENTION_NAME, paged_attention

    query = torch.ones(1, 6, 5, 4)  # heads, rows, head_dim

    def ends_early() -> None:
        with attention_left_out():
            out, _ = AttentionInterface()[ATTENTION_NAME](None, query, query, query, None, paged=None)
            assert out.shape == (1, 5, 6, 4)
            assert not out.any()
            raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        ends_early()
    assert AttentionInterface()[ATTENTION_NAME] is paged_attention


def spans() -> Iterator[SpanRecord]:
    for kind, start_s, end_s, count in (
        ("prefill", 1.0, 2.0, 2),
        ("draft", 2.5, 3.0, 1),
        ("draft", 3.125, 4.0, 1),
        ("verify", 4.25, 5.0, 2),
        ("draft", 6.0, 7.0, 2),
    ):
        ids = tuple(f"r{index}" for index in range(count))
        yield SpanRecord("lane", kind, start_s, end_s, 0, ids, 1, 1, 0)  # type: ignore[arg-type]


def test_gaps_lie_between_the_spans() -> None:
    assert span_gaps_s(SpanColumns.of(list(spans()))) == {
        GapPoint("prefill", "draft", 2): [0.5],
        GapPoint("draft", "draft", 1): [0.125],
        GapPoint("draft", "verify", 1): [0.25],
        GapPoint("verify", "draft", 2): [1.0],
    }


def test_a_timing_is_the_median_and_the_spread() -> None:
    timing = Timing.of([1.0, 9.0, 2.0, 3.0, 4.0])
    # sorted 1 2 3 4 9: p10 at place 0.4, p90 at place 3.6
    assert (timing.repeats, timing.median_s) == (5, 3.0)
    assert (timing.p10_s, timing.p90_s) == pytest.approx((1.4, 7.0))
    # 9 counts as 2 x 3: (1 + 2 + 3 + 4 + 6) / 5
    assert timing.mean_s == pytest.approx(3.2)
    # sqrt(pi / 2 / 5) x 5.6 / 2.5632 / 3
    assert timing.standard_error == pytest.approx(0.4082, abs=1e-4)
    assert Timing.of([1.0]).standard_error == np.inf


def test_a_point_has_its_own_key() -> None:
    one, other = (PassPoint("m", "none", "fit", (0,), (stop,), 1) for stop in (3, 4))
    assert point_key(one) == point_key(PassPoint("m", "none", "fit", (0,), (3,), 1)) != point_key(other)


def test_passes_that_are_replayed_are_captured_once(tiny_target: TargetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a capture that keeps the function: what it reads stays, and whatever comes between leaves it alone."""
    captured: list[Captured] = []

    def capture(run: Callable[[], object], device: object, pool: object) -> Captured:
        run()
        captured.append(Captured(torch.inference_mode()(lambda: cast(None, run())), 0, run))
        return captured[-1]

    for module in (bench_module, replay_module):
        monkeypatch.setattr(module, "capture", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    timed = Bench(tiny_target, [], Sampling(), LIMITS, Execution(graphs="cuda"))
    timed.begin()
    points = pass_points(QUICK, True, ("packed", "padded"), LIMITS)
    chosen = [next(point for point in points if point.attention == kind) for kind in ("none", "packed", "padded")]
    for _ in range(2):
        assert all(timed.pass_s(point) > 0 for point in chosen)
    assert len(captured) == len(chosen)
    step = JobPoint("verify", TARGET_LANE, "packed", "fit", (9,), (10,), (), ())
    assert timed.job_s(step) > 0
    assert len(captured) == len(chosen) + 1


def test_what_has_too_many_rows_for_a_graph_is_timed_as_it_is_launched(
    tiny_target: TargetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "row_bucket", lambda rows: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    timed = Bench(tiny_target, [], Sampling(), LIMITS, Execution(graphs="cuda"))
    timed.begin()
    assert timed.pass_s(pass_points(QUICK, True, ("packed",), LIMITS)[0]) > 0


def test_a_slow_spell_is_taken_out_of_what_was_timed_in_it(
    bench: Bench, plan: MeasurePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second sweep on everything takes twice as long, and one pass is sure, or too slow, before."""
    early = plan.passes[0][4]
    counts: dict[PassPoint, int] = {}

    def visit_s(bench: Bench, point: PassPoint) -> float:
        counts[point] = counts.get(point, 0) + 1
        slow = 1.0 if counts[point] == 1 else 2.0
        return slow * (UNSURE_POINT_S if point == early else 0.1)

    monkeypatch.setattr("spinbench.calibration.measuring.measure._visit_s", visit_s)
    monkeypatch.setattr("spinbench.calibration.measuring.measure.FEW_REPEATS", 1)
    passes_alone = replace(plan, groups=(), repeats=5)
    partial = PartialProfile(tmp_path, {})
    timings = dict(measure(bench, passes_alone, partial, None).passes)
    assert timings[early].repeats == 1
    others = [timing.median_s for point, timing in timings.items() if point != early]
    # one sweep at 1, four at 2: 1.8 in the mean, but for the window that lies across the change
    assert others == pytest.approx([0.18] * len(others), rel=0.03)
    assert timings[early].median_s == pytest.approx(1.8 * UNSURE_POINT_S, rel=0.03)
    assert pace_of(partial).p10 == pytest.approx(1 / 1.8, rel=0.03)
