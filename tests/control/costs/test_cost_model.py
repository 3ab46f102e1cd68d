"""Predictions against the same passes counted one by one, and the promises: never negative, never falling."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.control.cost_curve import Curve, RaggedAttention, RectangleAttention
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.costs.job_cost import GapCost, JobCost
from spinbench.control.costs.job_shape import job_passes
from spinbench.control.costs.model_cost import DrafterCost, ModelCost
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, PrefillJob, TokenSpans, VerifyJob
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.plan import LayoutKind
from spinbench.control.layout.protocol import VerificationLayout
from spinbench.errors import UserError

COEFFICIENT = st.floats(0, 1, allow_subnormal=False)


def spans(*pairs: tuple[int, int]) -> TokenSpans:
    return TokenSpans(np.arange(len(pairs)), np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))


def draft(lengths: list[int], *pairs: tuple[int, int], copied: tuple[int, ...] = ()) -> DraftJob:
    by_lookup = np.isin(np.arange(len(pairs)), copied)
    return DraftJob(0, spans(*pairs), np.array(lengths), by_lookup, False)


def verify(*pairs: tuple[int, int], layout: VerificationLayout | None = None) -> VerifyJob:
    tokens = spans(*pairs)
    return VerifyJob(tokens, (layout or PackedLayout()).plan(tokens.num_tokens, tokens.stop))


def model(
    name: str = "m", ragged: RaggedAttention | None = None, row_s: float = 1.0, head_row_s: float = 0.1
) -> ModelCost:
    """By default every row takes a second, further logits 0.1, attention nothing."""
    return ModelCost(
        name=name,
        forward=Curve((1, 64), (row_s, 64 * row_s)),
        head=Curve((1, 64), (0.0, 63 * head_row_s)),
        ragged=ragged or RaggedAttention(*[0.0] * 6, whole=Curve((1,), (0.0,))),
        rectangle={"padded": RectangleAttention(0.5, 0.25, 0.125, 0.01, 0.001)},
        max_num_requests=4,
        max_context_tokens=100,
    )


def cost_model(target: ModelCost | None = None, job: JobCost | None = None) -> CostModel:
    """A target, a drafter that is a model behind a lookup, and prompt lookup."""
    target, job = target or model(), job or JobCost(1.0, 0.0, 0.0, 0.0)
    lookup = JobCost(0.0, 10.0, 2.0, 0.0)
    return CostModel(
        target=target,
        drafters=(DrafterCost("both", model("d"), job, job, lookup), DrafterCost("lookup", None, None, None, lookup)),
        prefill=job,
        verify={"packed": job, "padded": job},
        gaps={"verify": GapCost(0.5, 0.25)},
    )


def test_time_of_each_kind_is_its_rows_when_attention_costs_nothing() -> None:
    costs = cost_model()
    # rows, and 0.1 for each row of logits beyond the first
    assert costs.job_s(PrefillJob(spans((0, 5), (0, 3)))) == pytest.approx(8 + 0.1)
    assert costs.job_s(CatchUpJob(0, spans((0, 5), (2, 4)))) == pytest.approx(7)
    assert costs.job_s(verify((4, 7), (5, 6))) == pytest.approx(4 + 0.3)
    # first pass 2 + 1 rows, second step 2 rows, third only one request
    assert costs.job_s(draft([3, 2], (3, 5), (8, 9))) == pytest.approx(3 + 0.1 + 2 + 0.1 + 1)


def test_host_time_is_per_job_request_and_pass() -> None:
    costs = cost_model(job=JobCost(2.0, 100.0, 10.0, 1.0))
    # twice 3 + 0.1 + 2 + 0.1 + 1 seconds, 100 for the job, 10 for each of 2 requests, 1 for each of 3 passes
    assert costs.job_s(draft([3, 2], (3, 5), (8, 9))) == pytest.approx(2 * 6.2 + 100 + 20 + 3)
    assert costs.job_s(verify((4, 5))) == pytest.approx(2 * 1 + 100 + 10 + 1)


def test_a_lookup_costs_no_pass() -> None:
    costs = cost_model()
    assert costs.job_s(draft([4, 4], (5, 5), (6, 6), copied=(0, 1))) == 10 + 2 * 2
    job = DraftJob(1, spans((5, 5)), np.array([4]), np.array([True]), False)
    assert costs.job_s(job) == 12
    # one copied, one drafted in two steps
    assert costs.job_s(draft([4, 2], (5, 5), (5, 6), copied=(0,))) == pytest.approx(12 + 1 + 1)


def test_a_rectangle_is_paid_whole() -> None:
    costs = cost_model()
    job = verify((4, 7), (5, 6), layout=PaddedLayout())
    # 2 requests x 3 rows, 2 x 7 keys, 6 x 7 cells, logits of the 4 real rows
    assert costs.job_s(job) == pytest.approx(6 + 0.3 + 0.5 + 2 * 0.25 + 6 * 0.125 + 14 * 0.01 + 42 * 0.001)


def test_several_rectangles_and_a_merge_are_paid_for() -> None:
    law = RectangleAttention(0.5, 0.25, 0.125, 0.01, 0.001, merge_s=3.0, merged_row_s=0.0625)
    costs = cost_model(replace(model(), rectangle={"grouped": law, "decomposed": law}))
    costs = replace(costs, verify=dict.fromkeys(("grouped", "decomposed"), JobCost(1.0, 0.0, 0.0, 0.0)))
    rows_s = 5 + 0.4  # 3 + 2 rows, 5 of logits
    grouped = costs.job_s(verify((9, 12), (3, 5), layout=GroupedLayout(window_tokens=0)))
    # 2 calls, 2 rows of 12 and 5 keys with 3 and 2 queries
    assert grouped == pytest.approx(rows_s + 2 * 0.5 + 2 * 0.25 + 5 * 0.125 + 17 * 0.01 + 46 * 0.001)
    decomposed = costs.job_s(verify((9, 12), (3, 5), layout=DecomposedLayout(width=5)))
    # 3 pieces of one and 1 of the other, 3 queries each, 5 keys wide; 9 rows are merged
    assert decomposed == pytest.approx(rows_s + 0.5 + 4 * 0.25 + 12 * 0.125 + 20 * 0.01 + 60 * 0.001 + 3.0 + 9 * 0.0625)


def test_the_gap_after_a_job_grows_with_its_requests() -> None:
    costs = cost_model()
    assert costs.gap_s(verify((4, 7), (5, 6), (5, 6))) == 0.5 + 3 * 0.25
    assert costs.gap_s(PrefillJob(spans((0, 5)))) == 0


@st.composite
def cost_models(draw: st.DrawFn) -> CostModel:
    def one_model(name: str) -> ModelCost:
        knots = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=4)))
        seconds = np.cumsum([draw(COEFFICIENT) for _ in knots]).tolist()
        return ModelCost(
            name=name,
            forward=Curve(tuple(knots), tuple(seconds)),
            head=Curve((1, 20), (0.0, draw(COEFFICIENT))),
            ragged=RaggedAttention(*[draw(COEFFICIENT) for _ in range(6)], whole=Curve((9,), (draw(COEFFICIENT),))),
            rectangle={"padded": RectangleAttention(*[draw(COEFFICIENT) for _ in range(5)])},
            max_num_requests=3,
            max_context_tokens=50,
        )

    def job() -> JobCost:
        return JobCost(*[draw(COEFFICIENT) for _ in range(4)])

    drafter = DrafterCost("d", one_model("d"), job(), job(), job())
    return CostModel(one_model("t"), (drafter,), job(), {"packed": job(), "padded": job()}, {})


PAIRS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    min_size=1,
    max_size=5,
)
MAKERS: list[Callable[[list[tuple[int, int]]], Job]] = [
    lambda pairs: PrefillJob(spans(*((0, stop) for _, stop in pairs))),
    lambda pairs: CatchUpJob(0, spans(*pairs)),
    lambda pairs: draft([1 + stop % 4 for _, stop in pairs], *pairs),
    lambda pairs: draft([4] * len(pairs), *pairs, copied=(0,)),
    lambda pairs: verify(*pairs),
    lambda pairs: verify(*pairs, layout=PaddedLayout()),
]


@settings(max_examples=60)
@given(cost_models(), PAIRS, st.sampled_from(MAKERS), st.data())
def test_a_larger_job_never_takes_less_time(
    costs: CostModel, pairs: list[tuple[int, int]], make: Callable[..., Job], data: st.DataObject
) -> None:
    before = costs.job_s(make(pairs))
    assert before >= 0
    place = data.draw(st.integers(0, len(pairs) - 1))
    start, stop = pairs[place]
    shifted = 4 * data.draw(st.integers(1, 3))  # the same K: 1 + stop % 4
    for grown in (
        [*pairs, pairs[place]],
        [*pairs[:place], (start + shifted, stop + shifted), *pairs[place + 1 :]],
    ):
        after = costs.job_s(make(grown))
        assert after >= before or after == pytest.approx(before)


@settings(max_examples=60)
@given(cost_models(), PAIRS, st.integers(1, 5))
def test_more_drafted_tokens_never_take_less_time(costs: CostModel, pairs: list[tuple[int, int]], length: int) -> None:
    shorter, longer = (costs.job_s(draft([k] * len(pairs), *pairs)) for k in (length, length + 1))
    assert longer >= shorter or longer == pytest.approx(shorter)
    rows = [costs.job_s(verify(*((stop, stop + 1 + drafted) for _, stop in pairs))) for drafted in (length, length + 1)]
    assert rows[1] >= rows[0] or rows[1] == pytest.approx(rows[0])


@settings(max_examples=60)
@given(cost_models(), st.lists(st.tuples(st.integers(2, 60), st.integers(1, 5)), min_size=1, max_size=4))
def test_a_draft_is_the_sum_of_its_passes(costs: CostModel, requests: list[tuple[int, int]]) -> None:
    job = draft([k for _, k in requests], *((stop - 1, stop) for stop, _ in requests))
    drafter = costs.drafters[0]
    assert drafter.model is not None
    assert drafter.draft is not None
    cost, expected = drafter.model, 0.0
    for step, shape in enumerate(job_passes(job)):
        expected += cost.forward.of(shape.num_tokens) + cost.head.of(shape.num_head_rows) + cost.ragged.pass_s
        expected += sum(cost.ragged.decode_s(stop + step) for stop, k in requests if k > step)
    expected = drafter.draft.of(expected, len(requests), len(job_passes(job)))
    assert costs.job_s(job) == pytest.approx(expected)


@settings(max_examples=60)
@given(cost_models(), st.integers(1, 4), st.integers(2, 60), st.integers(1, 5), st.integers(1, 3))
def test_an_estimate_of_equal_requests_is_the_job_itself(
    costs: CostModel, count: int, context: int, length: int, unseen: int
) -> None:
    unseen = min(unseen, context - 1)
    job = draft([length] * count, *[(context - unseen, context)] * count)
    assert costs.draft_s(0, count, length, context, unseen_tokens=unseen) == pytest.approx(costs.job_s(job))
    copied = draft([length] * count, *[(context, context)] * count, copied=tuple(range(count)))
    assert costs.draft_s(0, count, length, context, by_lookup=True) == pytest.approx(costs.job_s(copied))
    layouts: list[tuple[PackedLayout | PaddedLayout, LayoutKind]] = [
        (PackedLayout(), "packed"),
        (PaddedLayout(), "padded"),
    ]
    for layout, name in layouts:
        for drafted in (0, length):
            rows = verify(*[(context - 1, context + drafted)] * count, layout=layout)
            assert costs.verify_s(count, drafted, context, name) == pytest.approx(costs.job_s(rows))


def test_estimates_take_arrays_of_contexts() -> None:
    costs = cost_model(model(ragged=RaggedAttention(*[0.5] * 6, whole=Curve((1, 64), (0.5, 9.0)))))
    contexts = np.array([5.0, 9.0, 33.0])
    for estimate in (
        lambda context: costs.draft_s(0, 2, 3, context),
        lambda context: costs.verify_s(2, 3, context),
        lambda context: costs.verify_s(2, 3, context, "padded"),
    ):
        np.testing.assert_allclose(estimate(contexts), [estimate(context) for context in contexts.tolist()])
    assert costs.draft_s(0, 0, 3, 10.0) == costs.draft_s(0, 2, 0, 10.0) == 0


def test_outside_the_profiled_range_one_warning_for_each_operation_and_limit() -> None:
    costs = cost_model()
    costs.job_s(verify((4, 7)))
    assert costs.warnings == ()
    for _ in range(3):
        costs.job_s(verify((150, 153), (160, 163)))
        costs.job_s(PrefillJob(spans((0, 90))))
        costs.job_s(PrefillJob(spans(*[(0, 2)] * 5)))
        costs.job_s(draft([2] * 66, *[(3, 4)] * 66))
    assert [warning.partition(";")[0] for warning in costs.warnings] == [
        "attention of m: 163 tokens of context were asked for, 1 to 100 were profiled",
        "forward pass of m: 90 rows were asked for, 1 to 64 were profiled",
        "attention of m: 5 requests were asked for, 1 to 4 were profiled",
        "attention of d: 66 requests were asked for, 1 to 4 were profiled",
        "forward pass of d: 66 rows were asked for, 1 to 64 were profiled",
        "head of d: 66 rows of logits were asked for, 1 to 64 were profiled",
    ]


def test_it_is_plain_data() -> None:
    costs = cost_model()
    job = draft([3, 2], (3, 5), (8, 9))
    assert pickle.loads(pickle.dumps(costs)) == costs
    assert pickle.loads(pickle.dumps(costs)).job_s(job) == costs.job_s(job)


def test_what_was_not_profiled_is_named() -> None:
    costs = CostModel(model(), (DrafterCost("d", model("d"), None, None, None),), JobCost(1, 0, 0, 0), {}, {})
    with pytest.raises(UserError, match="no drafts of drafter 'd'"):
        costs.job_s(draft([3], (3, 5)))
    with pytest.raises(UserError, match="no verify jobs of layout packed"):
        costs.job_s(verify((3, 5)))
