"""What hindsight would have fixed, beside the simulator's runs with every fixed choice."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.pipeline import DraftWhileVerifyPipeline, Pipeline, SerialPipeline
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.records.run_record import RunRecord
from spinbench.control.regret import decode_time_s
from spinbench.control.selector.best_fixed import BestFixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from tests.control.contexts import context
from tests.control.made_costs import cost_model
from tests.control.oracle.known_run import FORESIGHT, INFOS, FreeCatchUp, foresight_of, run
from tests.simulation import simulated

MODEL = cost_model(INFOS)
MAX_TOKENS = 4


def setting(max_num_seqs: int, **known) -> SelectorSetting:
    rng = np.random.default_rng(0)
    return SelectorSetting(
        INFOS, max_num_seqs, len(FORESIGHT.max_new_tokens), rng, MAX_TOKENS, chooses_draft_length=True, **known
    )


def served(per_request: bool, max_num_seqs: int = 1) -> RunRecord:
    """A run by hindsight, K being part of the choice."""
    known = setting(max_num_seqs, foresight=FORESIGHT, cost_model=MODEL)
    selector = BestFixedSelector(known, per_request=per_request)
    return run(FreeCatchUp(MODEL), lambda _: selector, draft_length=selector, max_num_seqs=max_num_seqs)


def all_fixed(max_num_seqs: int = 1) -> dict[tuple[str, int], np.ndarray]:
    """Decoding time of each request under every fixed choice."""
    runs = {("plain", 0): run(FreeCatchUp(MODEL), PlainSelector, max_num_seqs=max_num_seqs)}
    for info in INFOS:
        for k in range(1, MAX_TOKENS + 1):
            choice = simulated.fixed(info.name)
            runs[info.name, k] = run(FreeCatchUp(MODEL), choice, draft_length=k, max_num_seqs=max_num_seqs)
    return {name: decode_time_s(record) for name, record in runs.items()}


def test_alone_it_takes_what_the_best_of_all_fixed_choices_takes():
    times = all_fixed()
    record = served(per_request=False)
    assert decode_time_s(record).sum() == pytest.approx(min(time_s.sum() for time_s in times.values()), rel=1e-9)
    own = decode_time_s(served(per_request=True))
    assert own == pytest.approx(np.min(list(times.values()), axis=0), rel=1e-9)
    assert own.sum() < decode_time_s(record).sum()


def test_in_a_batch_it_is_near_the_best():
    times = sorted(time_s.sum() for time_s in all_fixed(max_num_seqs=4).values())
    assert times[0] * (1 - 1e-9) <= decode_time_s(served(False, max_num_seqs=4)).sum() <= 1.05 * times[0]


PAIR = (DrafterInfo("quick", "model"), DrafterInfo("good", "model"))
RATES = {"quick": 0.6, "good": 0.85}
PAIR_MODEL = replace(
    cost_model(PAIR, straight=True),
    drafters=(
        cost_model(PAIR, drafter_scale=0.1, straight=True).drafters[0],
        cost_model(PAIR, drafter_scale=0.6, straight=True).drafters[1],
    ),
)
PAIR_TRACE = simulated.requests(8, 120)
PAIR_STREAMS = simulated.bernoulli(PAIR_TRACE, RATES, seed=2)


def chosen(placement: PlacementKind, pipeline: Pipeline, max_num_seqs: int) -> tuple[str, int]:
    """Drafter and K by hindsight."""
    known = SelectorSetting(
        PAIR, max_num_seqs, len(PAIR_TRACE), np.random.default_rng(0), MAX_TOKENS, PAIR_MODEL,
        foresight_of(PAIR_TRACE, PAIR_STREAMS, PAIR), True, Placement(placement), depths=pipeline.depths,
        drafts_ahead=isinstance(pipeline, DraftWhileVerifyPipeline),
    )  # fmt: skip
    selector, seen = BestFixedSelector(known, per_request=False), context(1, num_drafters=2)
    drafter = selector.choose(seen)
    return PAIR[drafter[0]].name, int(selector.lengths(seen, drafter)[0])


def swept(
    placement: PlacementKind, pipeline: Callable[[], Pipeline], max_num_seqs: int
) -> dict[tuple[str, int], float]:
    """Seconds of a run with each fixed choice."""
    return {
        (info.name, k): simulated.simulate(
            PAIR_TRACE, PAIR_STREAMS, PAIR_MODEL, infos=PAIR, selector=simulated.fixed(info.name), draft_length=k,
            max_num_seqs=max_num_seqs, placement=placement, pipeline=pipeline(),
        ).end_s
        for info in PAIR
        for k in range(1, MAX_TOKENS + 1)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pipeline", "max_num_seqs"),
    [
        (lambda: simulated.micro_batches(2), 4),
        (DraftWhileVerifyPipeline, 1),
        (DraftWhileVerifyPipeline, 4),
    ],
    ids=["two micro-batches", "ahead, alone", "ahead, in a batch"],
)
def test_where_jobs_overlap_it_is_what_a_sweep_finds(pipeline, max_num_seqs):
    ends = swept("own_devices", pipeline, max_num_seqs)
    best = min(ends, key=ends.__getitem__)
    assert chosen("own_devices", pipeline(), max_num_seqs) == best
    # priced one job after another, it was another, and a slower one
    by_turns = chosen("shared", SerialPipeline(), max_num_seqs)
    assert ends[by_turns] > 1.015 * ends[best]


def test_where_the_pipeline_finds_its_depth_it_is_what_pays_most_at_any():
    ends = {
        (depth, *choice): end_s
        for depth in (1, 2)
        for choice, end_s in swept("own_devices", lambda depth=depth: simulated.micro_batches(depth), 4).items()
    }
    best = min(ends, key=ends.__getitem__)
    assert best[0] == 2
    assert chosen("own_devices", simulated.micro_batches("adaptive", max_depth=2), 4) == best[1:]
    assert chosen("own_devices", simulated.micro_batches("adaptive", max_depth=1), 4) != best[1:]


def test_real_models_cannot_be_known_in_advance():
    with pytest.raises(UserError, match="engine=simulation"):
        BestFixedSelector(setting(1, cost_model=MODEL), per_request=False)
    with pytest.raises(UserError, match="at least one drafter"):
        BestFixedSelector(replace(setting(1, foresight=FORESIGHT), drafters=()), per_request=False)
