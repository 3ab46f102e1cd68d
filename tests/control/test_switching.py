"""Drafters that catch up ahead of their turn, on a body whose jobs run one after another."""

import numpy as np
import pytest

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, VerifyJob
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.request_table import RequestTable
from spinbench.control.selector.exp3spec import Exp3SpecSelector
from spinbench.control.selector.held_choice import HeldChoice
from spinbench.control.selector.protocol import Announces, SelectorSetting
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.control.switching import SwitchingKind
from spinbench.control.text import LiveText
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.control.contexts import context, outcome
from tests.control.scripted_body import ScriptedBody

DRAFTERS = (DrafterInfo("a", "model"), DrafterInfo("b", "model"), DrafterInfo("lookup", "prompt_lookup"))


class Script:
    """Drafters round by round; `announced` round by round, None = nothing is announced."""

    needs_confidence = False

    def __init__(self, choices: list[int]) -> None:
        self._choices = np.array(choices)

    def choose(self, context: RoundContext) -> IntArray:
        return self._choices[context.num_rounds]

    def observe(self, outcome) -> None: ...


class Announcer(Script):
    def next_drafters(self, context: RoundContext) -> IntArray:
        return self._choices[context.num_rounds + 1]


def jobs_of(selector, switching: SwitchingKind, prompt: int = 40, new: int = 30, accepts=(4, 4, 4)) -> list[tuple]:
    """(kind, drafter, first token, behind the last one) of the jobs of one request behind its prefill, K = 4."""
    request = Request(id="x", arrival_s=0.0, max_new_tokens=new, prompt_token_ids=(1,) * prompt)
    setting = LoopSetting(
        DRAFTERS, selector, FixedDraftLength(4), PackedLayout(), frozenset(), 100, 4, 8, 64, switching=switching
    )
    queue = ArrivalQueue([request], ArrivalPattern(kind="trace"))
    body = ScriptedBody(accepts)
    table = RequestTable(queue.requests, {"x": prompt}, len(DRAFTERS))
    record = ServingLoop(setting, body, queue, table, LiveText(queue.requests, {"x": (1,) * prompt})).run()
    assert len(record.spans) == len(body.jobs)  # whatever was submitted is in the record
    return [
        (type(job).__name__[:-3], getattr(job, "drafter", None), int(job.spans.start[0]), int(job.spans.stop[0]))
        for job in body.jobs[1:]
        if isinstance(job, CatchUpJob | DraftJob | VerifyJob)
    ]


def test_the_announced_drafter_catches_up_in_the_round_before():
    # the prefill emits the 41st token, each round 5 more: contexts of 41, 46, 51
    script = [0, 1, 1, 0, 0, 0, 0, 0]
    assert jobs_of(Announcer(script), "on_demand", new=16) == [
        ("CatchUp", 0, 0, 40), ("Draft", 0, 40, 41), ("Verify", None, 40, 45),
        ("CatchUp", 1, 0, 45), ("Draft", 1, 45, 46), ("Verify", None, 45, 50),
        ("Draft", 1, 49, 51), ("Verify", None, 50, 55),
    ]  # fmt: skip
    # all 41 tokens go into b behind a's draft, and the 5 of the round with its own: no catch-up in front of it
    assert jobs_of(Announcer(script), "ahead", new=16) == [
        ("CatchUp", 0, 0, 40), ("Draft", 0, 40, 41), ("CatchUp", 1, 0, 41), ("Verify", None, 40, 45),
        ("Draft", 1, 41, 46), ("Verify", None, 45, 50),
        # its last draft was never fed to it; a held 44, and 51 + 5 - 44 = 12 can be taken in with a draft
        ("Draft", 1, 49, 51), ("Verify", None, 50, 55),
    ]  # fmt: skip


def test_where_nothing_is_announced_the_last_model_is_kept_ready():
    # a drafts once, then lookup; it holds 44 tokens, and lacks more than 16 by the end of the round from 56 on
    jobs = jobs_of(Script([0, *[2] * 8]), "ahead", new=36)
    assert [job for job in jobs if job[0] == "CatchUp"] == [
        ("CatchUp", 0, 0, 40),
        ("CatchUp", 0, 44, 56),
        ("CatchUp", 0, 56, 71),
    ]
    assert not [job for job in jobs_of(Script([0, *[2] * 8]), "on_demand", new=36) if job[0] == "CatchUp"][1:]


def test_nothing_is_prepared_for_a_request_that_must_end():
    # 2 tokens of 40 + 2: the prefill's and one of a round without a draft
    assert jobs_of(Announcer([0, 1, 1]), "ahead", new=2) == [("Verify", None, 40, 41)]


def test_kv_of_a_job_that_outlived_its_request_is_not_counted():
    table = RequestTable([Request(id="x", arrival_s=0.0, max_new_tokens=9, prompt_token_ids=(1,) * 30)], {"x": 30}, 2)
    rows = np.array([0])
    table.queue_kv(np.array([0]), 1, np.array([31]))
    assert table.planned_kv_tokens(rows, 1).tolist() == [31]
    assert table.drafter_kv_tokens[0].tolist() == [0, 0]  # nothing was computed yet
    table.drop_kv(0)
    assert table.planned_kv_tokens(rows, 1).tolist() == [0]
    assert table.num_kv_drops.tolist() == [1]


def test_a_choice_picked_ahead_is_kept():
    picks = iter(range(10))
    held = HeldChoice(3, rounds_per_choice=2)

    def pick(rows: IntArray) -> IntArray:
        return np.full(len(rows), next(picks))

    assert held.choose(context(2), pick).tolist() == [0, 0]
    assert held.choose_next(context(2), pick).tolist() == [0, 0]  # not due
    assert held.choose_next(context(2, num_rounds=1), pick).tolist() == [1, 1]
    assert held.choose(context(2, num_rounds=1), pick).tolist() == [0, 0]  # this round is the old one's
    assert held.choose(context(3, num_rounds=2), pick).tolist() == [1, 1, 2]  # the third came without
    assert held.choose(context(3, num_rounds=4), pick).tolist() == [3, 3, 3]  # nothing was picked for that


@pytest.mark.parametrize("rounds_per_choice", [1, 3])
def test_round_robin_announces_what_it_does(rounds_per_choice):
    selector = RoundRobinSelector(
        SelectorSetting(DRAFTERS, 2, 2, np.random.default_rng(0)), rounds_per_choice=rounds_per_choice
    )
    announced = selector.choose(context(2)).tolist()
    for num_rounds in range(9):
        assert selector.choose(context(2, num_rounds)).tolist() == announced
        announced = selector.next_drafters(context(2, num_rounds)).tolist()


def spin(**changes) -> SpinSelector:
    keys = {
        "rounds_per_slot": 2, "slots_per_epoch": 3, "exploring_slots": 1, "reward": "draft_goodput", "decay": 1.0,
        "prior_rounds": 2, "per_request": True, "capacity": 2, **changes,
    }  # fmt: skip
    return SpinSelector(SelectorSetting(DRAFTERS, 4, 8, np.random.default_rng(3), 4), **keys)


def test_spin_keeps_to_what_it_announced_within_its_capacities():
    selector, announced = spin(), None
    for num_rounds in range(20):
        chosen = selector.choose(context(4, num_rounds))
        if announced is not None:
            assert chosen.tolist() == announced.tolist()
        assert np.bincount(chosen, minlength=3).max() <= 2
        announced = selector.next_drafters(context(4, num_rounds))
        selector.observe(outcome(range(4), chosen, [1] * 4, [1.0] * 4))


def test_spin_places_newcomers_beside_those_assigned_ahead():
    selector = spin()
    for num_rounds in range(2):
        selector.choose(context(3, num_rounds))
    announced = selector.next_drafters(context(3, 1))
    chosen = selector.choose(context(4, 2))  # a slot begins, and a request has arrived
    assert chosen[:3].tolist() == announced.tolist()
    assert np.bincount(chosen, minlength=3).max() <= 2


def test_spin_keeps_to_what_it_announced_in_micro_batches():
    selector, announced = spin(), {}
    for num_rounds in range(12):
        chosen = []
        for half in ([0, 1], [2, 3]):
            drafters = selector.choose(context(2, num_rounds, rows=half)).tolist()
            assert drafters == announced.get(half[0], drafters)
            announced[half[0]] = selector.next_drafters(context(2, num_rounds, rows=half)).tolist()
            selector.observe(outcome(half, drafters, [1, 1], [1.0, 1.0]))
            chosen += drafters
        assert np.bincount(chosen, minlength=3).max() <= 2


def test_exp3_weighs_a_loss_by_the_draw_that_it_came_from():
    selector = Exp3SpecSelector(
        SelectorSetting(DRAFTERS, 1, 1, np.random.default_rng(0), 4),
        rounds_per_choice=1,
        reward="acceptance_length",
        per_request=True,
    )
    assert isinstance(selector, Announces)
    losses = []
    for ahead in (False, True):
        selector = Exp3SpecSelector(
            SelectorSetting(DRAFTERS, 1, 1, np.random.default_rng(0), 4),
            rounds_per_choice=1,
            reward="acceptance_length",
            per_request=True,
        )
        first = selector.choose(context(1))
        selector.observe(outcome([0], first, [0], [1.0]))
        second = selector.choose(context(1, 1))  # with a probability other than 1 / 3
        if ahead:
            selector.next_drafters(context(1, 1))
        selector.observe(outcome([0], second, [0], [1.0]))
        losses.append(selector.probabilities(np.array([0])).tolist())
    assert losses[0] == losses[1]
