"""Jobs that follow each other on one lane: the same run without an event for each, however much is done at one go."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.records import round_log, span_log
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.epsilon_greedy import EpsilonGreedySelector
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.simulation import session
from spinbench.simulation.body import SimulatedBody
from tests.control.made_costs import cost_model
from tests.covering import matrix
from tests.simulation import simulated

INFOS = tuple(DrafterInfo(name, "model") for name in ("a", "b", "c"))
RATES = {"a": 0.5, "b": 0.7, "c": 0.9}
SELECTORS = {
    "spin": partial(
        SpinSelector, rounds_per_slot=2, slots_per_epoch=3, exploring_slots=1, reward="draft_goodput", decay=0.9,
        prior_rounds=4, per_request=True, capacity=None,
    ),
    "random": partial(RandomSelector, rounds_per_choice=1),
    "epsilon_greedy": partial(
        EpsilonGreedySelector, epsilon=0.3, rounds_per_choice=2, reward="round_goodput", decay=0.9, prior_rounds=4
    ),
}  # fmt: skip


class Alternating(FixedDraftLength):
    """4 tokens for every other request, none for those between."""

    def lengths(self, context, drafters):
        return super().lengths(context, drafters) * (context.rows % 2)


def _run(
    selector: str = "spin",
    *,
    prompt: int = 40,
    layout: str = "packed",
    infos: Sequence[DrafterInfo] = INFOS,
    at_once: bool = True,
    **more,
) -> RunRecord:
    lengths = [3 + 17 * index % 40 for index in range(14)]
    asked = simulated.requests(14, lengths, [0.001 * index for index in range(14)])
    trace = [replace(request, prompt_len_tokens=prompt + index) for index, request in enumerate(asked)]
    streams = simulated.bernoulli(trace, RATES)
    return simulated.simulate(
        trace, streams, cost_model(infos), infos=infos, selector=SELECTORS[selector], max_num_seqs=6,
        layout=simulated.LAYOUTS[layout], at_once=at_once, **more,
    )  # fmt: skip


def _on_simpy(monkeypatch: pytest.MonkeyPatch, **decisions) -> RunRecord:
    """The run with an event on SimPy's clock for each job."""

    def body(answers, drafters, times, start_s) -> SimulatedBody:
        return SimulatedBody(answers, drafters, times, start_s)

    with monkeypatch.context() as patch:
        patch.setattr(session, "SerialBody", body)
        return _run(**decisions, at_once=False)


def _assert_equal(ours: RunRecord, theirs: RunRecord) -> None:
    assert (ours.requests, ours.start_s, ours.end_s) == (theirs.requests, theirs.start_s, theirs.end_s)
    for mine, other in ((ours.rounds, theirs.rounds), (ours.spans, theirs.spans)):
        for column in fields(mine):
            assert np.array_equal(
                getattr(mine, column.name), getattr(other, column.name), equal_nan=column.name.endswith("_s")
            ), column.name


@matrix(
    {
        "selector": SELECTORS,
        "prompt": (1, 40),
        "layout": ("packed", "padded", "decomposed"),
        "draft_length": (1, 4, "alternating"),
        "num_kv_blocks": (1000, 9),
    }
)
def test_nothing_differs_from_a_run_with_an_event_for_each_job(
    monkeypatch, selector, prompt, layout, draft_length, num_kv_blocks
):
    decisions = {
        "selector": selector, "prompt": prompt, "layout": layout, "num_kv_blocks": num_kv_blocks,
        "draft_length": Alternating(4) if draft_length == "alternating" else draft_length,
    }  # fmt: skip
    at_once = _run(**decisions)
    _assert_equal(at_once, _run(**decisions, at_once=False))
    _assert_equal(at_once, _on_simpy(monkeypatch, **decisions))
    assert {"draft", "verify", "prefill"} <= set(at_once.spans.kind)
    assert prompt == 1 or "catch_up" in at_once.spans.kind


COPYING = (*INFOS[:2], DrafterInfo("c", "lookup_then_model"))


@pytest.mark.parametrize(
    "change",
    [
        {"switching": "ahead"},
        {"pipeline": simulated.micro_batches(2)},
        {"infos": COPYING},
        {"infos": COPYING, "pipeline": simulated.micro_batches(3), "switching": "ahead", "num_kv_blocks": 12},
    ],
)
def test_jobs_of_one_lane_need_no_events_whatever_happens_between_them(monkeypatch, change):
    def no_body(*_):
        raise AssertionError("at once")

    expected = _on_simpy(monkeypatch, **change)
    monkeypatch.setattr(session, "AtOnceBody", no_body)
    _assert_equal(_run(**change), expected)
    with pytest.raises(AssertionError, match="at once"):
        _run()


def test_records_are_the_same_however_they_are_cut_in_chunks(monkeypatch):
    whole = _run()
    monkeypatch.setattr(round_log, "ROUNDS_PER_CHUNK", 3)
    monkeypatch.setattr(span_log, "SPANS_PER_CHUNK", 3)
    _assert_equal(_run(), whole)
