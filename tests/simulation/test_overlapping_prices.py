"""Who prices rounds chooses as well as hindsight where jobs overlap: beside other micro-batches, on lanes that slow each
other, and with drafts made ahead."""

import functools
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.costs.round_schedule import RoundSchedule
from spinbench.control.draft_length.goodput import GoodputDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.pipeline import DraftWhileVerifyPipeline, Pipeline, SerialPipeline
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.protocol import SelectorSetting
from tests.control.made_costs import cost_model
from tests.simulation.simulated import StatedTimes, bernoulli, fixed, micro_batches, requests, simulate

INFOS = (DrafterInfo("d", "model"),)
MOST = 6


@dataclass(frozen=True)
class Case:
    """A set-up, and what there is in it for who knows it."""

    pipeline: Pipeline
    placement: PlacementKind
    rate: float
    drafter_scale: float
    overlap: Overlap | None = None
    max_num_seqs: int = 4

    @property
    def num_requests(self) -> int:
        """As many batches of either size: who is served alone takes as many rounds as four together."""
        return 3 * self.max_num_seqs


CASES = {
    "drafting is hidden": Case(micro_batches(2), "own_devices", 0.8, 0.15),
    "hidden, but slows the target": Case(micro_batches(2), "drafters_together", 0.6, 0.3, Overlap(1.0, 1.6, 1.0, 1.6)),
    "drafters are slow beside": Case(micro_batches(2), "drafters_together", 0.8, 0.3, Overlap(1.0, 1.0, 1.0, 3.0)),
    "a lane alone is slow": Case(SerialPipeline(), "drafters_together", 0.8, 0.1, Overlap(1.0, 1.0, 4.0, 4.0)),
    "guesses hold": Case(DraftWhileVerifyPipeline(), "own_devices", 0.9, 0.3, max_num_seqs=1),
    "guesses seldom hold": Case(DraftWhileVerifyPipeline(), "own_devices", 0.6, 0.3, max_num_seqs=1),
    "some guesses hold": Case(DraftWhileVerifyPipeline(), "own_devices", 0.8, 0.15),
    "guesses outlast the target": Case(DraftWhileVerifyPipeline(), "drafters_together", 0.8, 0.5),
    "guesses cost time": Case(DraftWhileVerifyPipeline(), "shared", 0.7, 0.2, max_num_seqs=1),
}


def _tokens_per_s(case: Case, draft_length) -> float:
    trace = requests(case.num_requests, 150)
    costs = cost_model(INFOS, drafter_scale=case.drafter_scale, straight=True)
    record = simulate(
        trace, bernoulli(trace, {"d": case.rate}, seed=1), costs, infos=INFOS, selector=fixed(),
        draft_length=draft_length, max_num_seqs=case.max_num_seqs, pipeline=case.pipeline, placement=case.placement,
        overlap=case.overlap,
    )  # fmt: skip
    return case.num_requests * 150 / record.end_s


def goodput(case: Case) -> GoodputDraftLength:
    """The policy that knows what overlaps."""
    costs = cost_model(INFOS, drafter_scale=case.drafter_scale, straight=True)
    setting = SelectorSetting(
        INFOS, case.max_num_seqs, case.num_requests, np.random.default_rng(0), cost_model=costs, placement=Placement(case.placement),
        drafts_ahead=isinstance(case.pipeline, DraftWhileVerifyPipeline), overlap=case.overlap or NOT_SLOWED,
    )  # fmt: skip
    return GoodputDraftLength(setting, max_num_speculative_tokens=MOST, prior_rate=0.6, decay=0.98, probe_share=0.01)


@functools.cache
def _priced_tokens_per_s(case: Case) -> float:
    return _tokens_per_s(case, goodput(case))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_draft_length_is_as_good_as_the_best_fixed_one(case):
    best = max(_tokens_per_s(case, k) for k in range(MOST + 1))
    assert _priced_tokens_per_s(case) > 0.97 * best


class Watching(FixedSelector):
    """The first drafter for the first two of four requests, the second one for others; adds up what rounds take."""

    def __init__(self, setting: SelectorSetting, schedule: RoundSchedule) -> None:
        super().__init__(setting, drafter="a")
        self._schedule = schedule
        self.rounds_s = 0.0

    def choose(self, context: RoundContext) -> IntArray:
        return context.rows // 2

    def observe(self, outcome: RoundOutcome) -> None:
        self.rounds_s += self._schedule.measured_s(outcome)


@pytest.mark.parametrize("draft_token_s", [0.1, 0.5])
@pytest.mark.parametrize("placement", get_args(PlacementKind))
@pytest.mark.parametrize(
    ("pipeline", "tolerance"),
    # micro-batches of both drafters each
    [(SerialPipeline(), 1e-9), (DraftWhileVerifyPipeline(), 0.02), (micro_batches(2, "round_robin"), 0.1)],
)
def test_what_rounds_are_measured_to_take_adds_up_to_the_run(pipeline, tolerance, placement, draft_token_s):
    trace, watching = requests(4, 80), []

    def selector(setting: SelectorSetting) -> Watching:
        watching.append(Watching(setting, RoundSchedule(Placement(placement))))
        return watching[0]

    record = simulate(
        trace, bernoulli(trace, {"a": 0.6, "b": 0.6}), StatedTimes(draft_token_s=draft_token_s), selector=selector,
        draft_length=3, max_num_seqs=4, pipeline=pipeline, placement=placement,
    )  # fmt: skip
    # a prefill takes a second, and so does a verification; a draft takes up to 3 tokens, a further one up to 4
    assert watching[0].rounds_s == pytest.approx(record.end_s - 1, rel=tolerance)


class Blind:
    """The policy as if nothing overlapped and no lane were slowed."""

    max_num_speculative_tokens = MOST

    def __init__(self, case: Case) -> None:
        self._policy = goodput(replace(case, pipeline=SerialPipeline(), overlap=None))

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        return self._policy.lengths(replace(context, num_in_flight=0), drafters)

    def observe(self, outcome: RoundOutcome) -> None:
        self._policy.observe(outcome)


@pytest.mark.parametrize("name", ["hidden, but slows the target", "a lane alone is slow"])
def test_who_does_not_know_chooses_worse(name):
    case = CASES[name]
    assert _priced_tokens_per_s(case) > 1.03 * _tokens_per_s(case, Blind(case))


def test_adaptive_depth_finds_what_longer_drafts_are_worth():
    # by itself drafting takes so long that none is made, beside the target it is hidden: fewer rounds, more tokens
    case = Case(micro_batches("adaptive", passes_per_trial=4), "own_devices", 0.9, 0.5)
    serial = replace(case, pipeline=SerialPipeline())
    assert _priced_tokens_per_s(case) > 1.05 * _priced_tokens_per_s(serial)
