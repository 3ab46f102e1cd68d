"""The simulator decides, drafts and accepts what the runtime did, request by request and round by round.

Each run is made once for two questions: its answers are those of plain decoding as well.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Literal

import numpy as np
import pytest

from spinbench.control import batch_limits
from spinbench.control.cost_curve import Curve
from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.run_record import RunRecord
from spinbench.control.records.span_record import SpanColumns
from spinbench.metrics.tables import tables_from_record
from spinbench.metrics.validation import compare_rounds
from spinbench.runtime.drafters import model as drafter_module
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.simulation.body import JobTimes
from spinbench.simulation.recorded_times import Diverged, RecordedTimes
from spinbench.simulation.session import simulated_loop
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from tests.control.made_costs import cost_model
from tests.covering import matrix
from tests.runtime import recorded, serving
from tests.runtime.scarce_memory import ScarceMemory, every_third_of_several

MOST_RUNS = 5
"""How many requests are served together when the blocks run out depends on the clock."""
TIMES = ("draft_start_s", "draft_end_s", "verify_start_s", "verify_end_s")
BLIND = [name for name in serving.SELECTORS if name not in ("epsilon_greedy", "spin")]
"""Selectors that do not look at time."""


class EqualTimes:
    """A second a job, and nothing between."""

    warnings = ()

    def job_s(self, job) -> float:
        return 1.0

    def gap_s(self, job) -> float:
        return 0.0


def _times_of(run: RunRecord) -> RecordedTimes:
    return RecordedTimes(run.spans.kind, run.spans.start_s.tolist(), run.spans.end_s.tolist())


def _lane_times_of(run: RunRecord) -> RecordedTimes:
    return RecordedTimes(run.spans.kind, run.spans.start_s.tolist(), run.spans.end_s.tolist(), run.spans.lane)


def _trace(max_num_seqs: int = 3, **_) -> Sequence[Request]:
    return serving.three_batches(recorded.TRACE, max_num_seqs)


def _serve(sampling: str = "greedy", ngrams: bool | Literal["alone"] = False, **decisions) -> RunRecord:
    """A run on the runtime, whose answers are those of plain decoding."""
    target, models = _models(ngrams)
    trace = _trace(**decisions)
    real = serving.serve(target, models, trace, sampling=recorded.SAMPLINGS[sampling], **decisions)
    plain = serving.outputs(recorded.plain(sampling))
    assert serving.outputs(real) == {request.id: plain[request.id] for request in trace}
    assert {request.finish_reason for request in real.requests} == {"length", "stop"}
    return real


def _simulate(
    times: JobTimes,
    sampling: str = "greedy",
    ngrams: bool | Literal["alone"] = False,
    drafts_end_early: bool = True,
    **decisions,
) -> RunRecord:
    target, models = _models(ngrams)
    trace = _trace(**decisions)
    setting = serving.loop_setting(target, models, len(trace), **decisions)
    queue = ArrivalQueue(trace, ArrivalPattern(kind="trace"))
    names = [drafter.name for drafter in setting.drafters]
    streams = streams_from_table(recorded.table(sampling), queue.requests, names)
    lengths = {request.id: len(request.prompt_token_ids or ()) for request in queue.requests}
    start_s = times.start_s if isinstance(times, RecordedTimes) else 0.0
    return simulated_loop(
        setting, queue, streams, lengths, times, start_s=start_s, drafts_end_early=drafts_end_early
    ).run()


def _assert_same_rounds(simulated: RoundColumns, real: RoundColumns, columns) -> None:
    for name in columns:
        assert np.array_equal(getattr(simulated, name), getattr(real, name), equal_nan=True), name


SPAN_COUNTS = [field.name for field in fields(SpanColumns) if field.name not in ("request_ids", "start_s", "end_s")]
COUNTS = [field.name for field in fields(RoundColumns) if field.name not in (*TIMES, "request_ids", "drafters")]


def _models(ngrams: bool | Literal["alone"]):
    target, models = recorded.models()
    if ngrams == "alone":
        return target, [recorded.ngrams()]
    return target, [*models, recorded.ngrams()] if ngrams else models


def _assert_everything_is_equal(
    sampling: str, ngrams: bool | Literal["alone"] = False, drafts_end_early: bool = True, **decisions
) -> RunRecord:
    real = _serve(sampling, ngrams, **decisions)
    simulated = _simulate(_times_of(real), sampling, ngrams, drafts_end_early, **decisions)
    _assert_same_rounds(simulated.rounds, real.rounds, COUNTS)
    for name in TIMES:
        assert np.allclose(getattr(simulated.rounds, name), getattr(real.rounds, name), atol=1e-9, equal_nan=True)
    without_prompts = [replace(request, prompt_token_ids=()) for request in real.requests]
    for ours, theirs in zip(simulated.requests, without_prompts, strict=True):
        assert (ours.request_id, ours.output_token_ids) == (theirs.request_id, theirs.output_token_ids)
        assert ours.finish_reason == theirs.finish_reason
        assert ours.num_prefill_emitted_tokens == theirs.num_prefill_emitted_tokens
    for name in SPAN_COUNTS:
        assert np.array_equal(getattr(simulated.spans, name), getattr(real.spans, name)), name
    return real


@matrix(
    {
        "selector": (*serving.SELECTORS, *serving.PLANNERS),
        "layout": serving.LAYOUTS,
        "max_num_seqs": (1, 3),  # all eight at once below: with n-gram tables, in pipelines, and where memory is scarce
        "draft_length": (1, 5),
        "sampling": recorded.SAMPLINGS,
    },
    apart=[("selector", "layout")],  # a layout does not know who chose
)
def test_with_the_runtimes_durations_everything_is_equal(selector, layout, max_num_seqs, draft_length, sampling):
    real = _assert_everything_is_equal(
        sampling, selector=selector, layout=layout, max_num_seqs=max_num_seqs, draft_length=draft_length
    )
    assert (real.rounds.drafted.sum() > 0) == (selector != "plain")


NGRAM_SELECTORS = ("fixed tiny-ngram", "fixed tiny-ngram+prompt_lookup", "random", "spin", "hedge", *serving.PLANNERS)


@matrix({"selector": NGRAM_SELECTORS, "max_num_seqs": (1, 8), "sampling": recorded.SAMPLINGS})
def test_with_an_ngram_table_everything_is_equal(selector, max_num_seqs, sampling):
    real = _assert_everything_is_equal(
        sampling, ngrams=True, selector=selector, max_num_seqs=max_num_seqs, draft_length=5
    )
    by = real.rounds.drafter >= len(real.rounds.drafters) - 2  # the table, alone and behind a lookup
    assert real.rounds.accepted[by].sum() > 0


@matrix({"max_num_seqs": (3, 8), "num_kv_blocks": (200, 26), "sampling": recorded.SAMPLINGS})
def test_branches_of_two_drafters_are_lossless_and_simulated_exactly(max_num_seqs, num_kv_blocks, sampling):
    real = _assert_everything_is_equal(
        sampling, "alone", selector="both", draft_length=4, max_num_seqs=max_num_seqs, num_kv_blocks=num_kv_blocks
    )
    rounds, table = real.rounds, recorded.table(sampling)
    drafters = serving.drafter_infos(_models("alone")[1])
    streams = streams_from_table(table, recorded.TRACE, [info.name for info in drafters])
    emitted = rounds.context_tokens - table.requests.prompt_tokens[rounds.row]
    branched = rounds.drafted > rounds.draft_depth
    by_second = branched & (rounds.accepted > 0)
    for drafter, info in enumerate(drafters):
        copies = info.drafts_by_lookup(rounds.lookup_match_order)
        first = (rounds.drafter == drafter) & (streams.accepted_run(rounds.row, emitted, drafter, copies) > 0)
        by_second &= ~first
    assert by_second.sum() > 1
    assert (branched & ~by_second & (rounds.accepted > 0)).sum() > 1


CHEAP_ROWS = Curve(tuple(range(1, 65)), tuple(np.linspace(1.0, 1.001, 64).tolist()))


@pytest.mark.parametrize("sampling", recorded.SAMPLINGS)
def test_joint_branches_where_rows_are_cheap_and_is_simulated_exactly(sampling):
    costs = cost_model(serving.drafter_infos(_models("alone")[1]))
    costs = replace(costs, target=replace(costs.target, forward=CHEAP_ROWS, head=CHEAP_ROWS))
    decisions = {"selector": "joint", "draft_length": 4, "costs": costs, "max_num_seqs": 8}
    real = _assert_everything_is_equal(sampling, "alone", branches=True, **decisions)
    assert (real.rounds.drafted > real.rounds.draft_depth).sum() > 3
    chains = _simulate(costs, sampling, "alone", **decisions).rounds
    assert (chains.drafted == chains.draft_depth).all()


@matrix(
    {
        "selector": ("fixed poor", "fixed good+prompt_lookup", "random", "spin"),
        "max_num_seqs": (1, 3, 8),
        "branching": ((1, 1, 3, 1, 1, 1, 1, 1), (3, 2, 2)),
        "sampling": recorded.SAMPLINGS,
    },
    apart=[("selector", "max_num_seqs")],  # drafts of any batch go through the same tree
)
def test_trees_are_simulated_exactly(selector, max_num_seqs, branching, sampling):
    tree = TreeDraftLength(branching=list(branching))
    _assert_everything_is_equal(sampling, True, selector=selector, max_num_seqs=max_num_seqs, draft_length=tree)


@pytest.mark.parametrize("num_kv_blocks", [200, 26], ids=["roomy", "preempted"])
@pytest.mark.parametrize("sampling", recorded.SAMPLINGS)
@pytest.mark.parametrize("branching", [[1] * 4, [2, 1, 2]], ids=["chains", "trees"])
def test_merged_drafts_are_accepted_exactly(branching, sampling, num_kv_blocks):
    decisions = {
        "selector": "merged good,poor,tiny-ngram,good+prompt_lookup", "draft_length": TreeDraftLength(branching=branching),
        "num_kv_blocks": num_kv_blocks, "max_num_seqs": 8,
    }  # fmt: skip
    real = _serve(sampling, ngrams=True, **decisions)
    simulated = _simulate(_times_of(real), sampling, ngrams=True, **decisions)
    _assert_same_rounds(simulated.rounds, real.rounds, [name for name in COUNTS if name != "drafted"])
    # where two drafters err alike their trees have more in common than is recorded
    assert (simulated.rounds.drafted >= real.rounds.drafted).all()
    compared = compare_rounds(tables_from_record(real).rounds, tables_from_record(simulated).rounds)
    assert (compared.first_difference, compared.num_equal) == (None, len(real.rounds))
    assert (simulated.rounds.drafted < simulated.rounds.num_speculative_tokens).any()
    if branching == [1] * 4:  # where trees would not fit beside each other, requests wait instead
        assert any(request.num_preemptions for request in real.requests) == (num_kv_blocks < 200)
    kinds = np.array(real.spans.kind)
    for name in SPAN_COUNTS:
        ours, theirs = np.array(getattr(simulated.spans, name)), np.array(getattr(real.spans, name))
        if len(ours) == len(kinds) and name in ("num_tokens", "useful_cells", "query_tokens", "key_tokens"):
            assert (ours[kinds == "verify"] >= theirs[kinds == "verify"]).all(), name
            ours, theirs = ours[kinds != "verify"], theirs[kinds != "verify"]
        assert np.array_equal(ours, theirs), name


@matrix(
    {
        "selector": serving.BANDITS,
        "max_num_seqs": (1, 3),
        "layout": ("packed", "decomposed"),
        "sampling": recorded.SAMPLINGS,
    }
)
def test_with_the_runtimes_durations_bandits_decide_the_same(selector, max_num_seqs, layout, sampling):
    real = _assert_everything_is_equal(sampling, selector=selector, max_num_seqs=max_num_seqs, layout=layout)
    assert len({part.drafter for part in real.rounds}) > 1


@matrix(
    {
        "policy": serving.CONFIDENT,
        "selector": ("fixed good", "fixed good+prompt_lookup", "fixed small_vocabulary", "random", "hedge"),
        "max_num_seqs": (1, 3, 8),
        "draft_length": (2, 4, 5),
        "sampling": recorded.SAMPLINGS,
    },
    apart=[("selector", "max_num_seqs"), ("selector", "draft_length")],  # each draft is ended by itself
)
def test_drafts_end_where_the_runtimes_end(policy, selector, max_num_seqs, draft_length, sampling):
    _assert_everything_is_equal(
        sampling, selector=selector, policy=policy, max_num_seqs=max_num_seqs, draft_length=draft_length
    )


@matrix(
    {
        "policy": ("confident product 0.5", "confident token 0.6"),
        "selector": ("fixed tiny-ngram", "fixed tiny-ngram+prompt_lookup", "random"),
        "sampling": recorded.SAMPLINGS,
    }
)
def test_drafts_of_an_ngram_table_end_where_the_runtimes_end(policy, selector, sampling):
    _assert_everything_is_equal(sampling, ngrams=True, selector=selector, policy=policy, max_num_seqs=8, draft_length=4)


@pytest.mark.parametrize("selector", ["fixed good+prompt_lookup", "random", "hedge"])
def test_drafts_that_are_run_to_their_k_end_where_the_runtimes_end(selector, monkeypatch):
    monkeypatch.setattr(drafter_module, "ends_while_drafting", lambda device_type: False)
    _assert_everything_is_equal(
        "drafter_invariant", drafts_end_early=False, selector=selector, policy=serving.CONFIDENT[0], max_num_seqs=8,
        draft_length=5,
    )  # fmt: skip


def _assert_same_run(simulated: RunRecord, real: RunRecord) -> None:
    _assert_same_rounds(simulated.rounds, real.rounds, (*COUNTS, *TIMES))
    for name in (*SPAN_COUNTS, "start_s", "end_s"):
        assert np.array_equal(getattr(simulated.spans, name), getattr(real.spans, name)), name
    for ours, theirs in zip(simulated.requests, real.requests, strict=True):
        for name in ("request_id", "output_token_ids", "finish_reason", "finish_s", "num_preemptions"):
            assert getattr(ours, name) == getattr(theirs, name)


@matrix(
    {
        "selector": ("random", "spin", "epsilon_greedy", "exp3spec", "thompson"),
        "depth": (2, 3, "adaptive"),
        "placement": ("shared", "drafters_together", "own_devices"),
        "num_kv_blocks": (200, 20),
    },
    apart=[("selector", "depth"), ("selector", "placement")],  # who chooses sees neither
)
def test_lanes_that_really_overlapped_are_repeated_exactly(selector, depth, placement, num_kv_blocks):
    decisions = {
        "selector": selector, "depth": depth, "placement": placement, "max_num_seqs": 8, "num_kv_blocks": num_kv_blocks,
    }  # fmt: skip
    real = _serve(**decisions)
    simulated = _simulate(_lane_times_of(real), **decisions)
    _assert_same_run(simulated, real)
    starts, ends = real.spans.start_s, real.spans.end_s
    # on a busy machine a depth that is chosen by time may stay 1
    if placement == "shared" or depth != "adaptive":
        assert bool((starts[1:] < ends[:-1]).any()) == (placement != "shared")


@matrix(
    {
        "selector": ("round_robin", "spin", "exp3spec", "joint"),
        "depth": (1, 2),
        "placement": ("shared", "drafters_together", "own_devices"),
        "num_kv_blocks": (200, 16),
    },
    apart=[("selector", "placement")],
)
def test_prepared_switches_are_repeated_exactly(selector, depth, placement, num_kv_blocks, monkeypatch):
    catch_up, slow = ModelDrafter.catch_up, placement == "own_devices"

    def mutated(self, *job):
        time.sleep(0.005 if slow else 0)  # so long that requests finish, or are preempted, meanwhile
        catch_up(self, *job)

    monkeypatch.setattr(ModelDrafter, "catch_up", mutated)
    decisions = {
        "selector": selector, "depth": depth, "placement": placement, "max_num_seqs": 8, "num_kv_blocks": num_kv_blocks,
        "switching": "ahead",
    }  # fmt: skip
    real = _serve(**decisions)
    simulated = _simulate(_lane_times_of(real), **decisions)
    _assert_same_run(simulated, real)
    drafted_in = {index for index, kind in zip(real.spans.round_index, real.spans.kind, strict=True) if kind == "draft"}
    assert drafted_in
    if num_kv_blocks == 16:
        assert _num_preemptions(real) > 0


@pytest.mark.parametrize(
    ("selector", "placement", "sampling", "decisions"),
    [
        ("fixed good", "own_devices", "greedy", {"max_num_seqs": 1, "draft_length": 2}),
        ("fixed good", "shared", "drafter_invariant", {"max_num_seqs": 3, "draft_length": 1}),
        ("fixed good+prompt_lookup", "own_devices", "drafter_invariant", {"max_num_seqs": 3, "draft_length": 2}),
        ("random", "shared", "greedy", {"max_num_seqs": 8, "num_kv_blocks": 20, "draft_length": 1}),
        ("random", "drafters_together", "drafter_invariant", {"max_num_seqs": 8, "draft_length": 1}),
        ("random", "own_devices", "greedy", {"max_num_seqs": 8, "num_kv_blocks": 20, "draft_length": 1}),
        ("spin", "own_devices", "greedy", {"max_num_seqs": 8, "draft_length": 2, "switching": "ahead"}),
        ("exp3spec", "own_devices", "drafter_invariant", {"max_num_seqs": 3, "draft_length": 4}),
        ("joint", "own_devices", "greedy", {"max_num_seqs": 8, "num_kv_blocks": 20}),
        ("joint", "shared", "drafter_invariant", {"max_num_seqs": 3}),
    ],
)
def test_drafting_ahead_is_repeated_exactly(selector, placement, sampling, decisions):
    decisions = {"selector": selector, "placement": placement, "depth": "draft_while_verify", **decisions}
    for _ in range(MOST_RUNS):
        real = _serve(sampling, **decisions)
        _assert_same_run(_simulate(_lane_times_of(real), sampling, **decisions), real)
        assert "draft_ahead" in real.spans.kind
        if "num_kv_blocks" not in decisions or _num_preemptions(real):
            break
    else:
        pytest.fail(f"no request was preempted in {MOST_RUNS} runs")
    if selector.startswith("fixed"):
        assert real.spans.used_tokens.sum() > 0


@matrix(
    {
        "selector": ("round_robin", "spin", "joint"),
        "depth": (1, 2, "draft_while_verify"),
        "placement": ("shared", "own_devices"),
        "switching": ("on_demand", "ahead"),
    }
)
def test_what_did_not_fit_is_repeated_exactly(selector, depth, placement, switching, monkeypatch):
    target, models = recorded.models()
    recorded.table("greedy")  # while there is memory for all
    monkeypatch.setattr(batch_limits, "JOBS_BEFORE_MORE", 2)
    memory = ScarceMemory(monkeypatch, every_third_of_several())
    decisions = {
        "selector": selector, "depth": depth, "placement": placement, "switching": switching, "max_num_seqs": 8,
        "draft_length": 2,
    }  # fmt: skip
    real = serving.serve(target, models, recorded.TRACE, **decisions)
    _assert_same_run(_simulate(_lane_times_of(real), **decisions), real)
    assert memory.refused["verify"] > 0


def test_a_request_that_was_given_up_is_given_up_again(monkeypatch):
    target, models = recorded.models()
    recorded.table("greedy")
    newest = len(recorded.TRACE[2].prompt_token_ids or ()) + 4
    ScarceMemory(monkeypatch, lambda _, spans: not (spans.start[spans.rows == 2] > newest).any(), ["verify"])
    decisions = {"selector": "random", "max_num_seqs": 8}
    real = serving.serve(target, models, recorded.TRACE, **decisions)
    assert [one.finish_reason for one in real.requests].count("out_of_memory") == 1
    _assert_same_run(_simulate(_lane_times_of(real), **decisions), real)


@pytest.mark.parametrize("switching", ["on_demand", "ahead"])
@pytest.mark.parametrize("placement", ["shared", "own_devices"])
def test_ended_drafts_are_repeated_exactly_in_a_pipeline(placement, switching):
    decisions = {
        "selector": "spin", "policy": serving.CONFIDENT[0], "depth": 2, "placement": placement, "max_num_seqs": 8,
        # two of more than half their length do not fit, however the lanes' threads are scheduled
        "num_kv_blocks": 14, "switching": switching,
    }  # fmt: skip
    real = _serve(**decisions)
    assert _num_preemptions(real) > 0
    assert (real.rounds.drafted < real.rounds.num_speculative_tokens).any()
    _assert_same_run(_simulate(_lane_times_of(real), **decisions), real)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_simulated_pipeline_is_repeated_exactly(depth):
    # jobs of a second each, so that many end at the same time
    decisions = {"selector": "spin", "depth": depth, "placement": "own_devices", "max_num_seqs": 8}
    first = _simulate(EqualTimes(), **decisions)
    _assert_same_run(_simulate(_lane_times_of(first), **decisions), first)


def _assert_decided_alike(known_costs: bool, **decisions) -> RunRecord:
    if known_costs:
        decisions["costs"] = cost_model(serving.drafter_infos(_models(False)[1]))
    real = _serve(**decisions)
    _assert_same_rounds(_simulate(_times_of(real), **decisions).rounds, real.rounds, COUNTS)
    return real


@pytest.mark.parametrize("known_costs", [False, True], ids=["costs_learned", "costs_known"])
@pytest.mark.parametrize("selector", serving.PLANNERS)
def test_who_weighs_costs_decides_the_same(selector, known_costs):
    _assert_decided_alike(known_costs, selector=selector, max_num_seqs=8)


@matrix(
    {
        "policy": serving.POLICIES,
        "selector": ("random", "fixed good+prompt_lookup"),
        "max_num_seqs": (1, 8),
        "known_costs": (False, True),
    }
)
def test_draft_lengths_that_learn_are_the_same(policy, selector, max_num_seqs, known_costs):
    real = _assert_decided_alike(known_costs, selector=selector, policy=policy, max_num_seqs=max_num_seqs)
    assert len(set(real.rounds.num_speculative_tokens.tolist())) > 1


@pytest.mark.parametrize("selector", ["random", "joint"])
def test_preemption_is_simulated_too(selector):
    decisions = {"selector": selector, "max_num_seqs": 8, "num_kv_blocks": 20}
    for _ in range(MOST_RUNS):
        real = _serve(**decisions)
        simulated = _simulate(_times_of(real), **decisions)
        assert [r.num_preemptions for r in simulated.requests] == [r.num_preemptions for r in real.requests]
        _assert_same_rounds(simulated.rounds, real.rounds, COUNTS)
        if _num_preemptions(real):
            return
    pytest.fail(f"no request was preempted in {MOST_RUNS} runs")


def _num_preemptions(run: RunRecord) -> int:
    return sum(request.num_preemptions for request in run.requests)


def _of_each_request(rounds: RoundColumns) -> dict[str, list[tuple]]:
    """Drafter, drafted and accepted tokens of each request, round by round."""
    parts = sorted(rounds, key=lambda part: part.request_id)
    by_request = itertools.groupby(parts, key=lambda part: part.request_id)
    return {name: [(part.drafter, part.drafted, part.accepted) for part in own] for name, own in by_request}


@pytest.mark.parametrize("selector", [name for name in BLIND if name != "random" and name != "round_robin"])
def test_with_other_durations_policies_blind_to_time_accept_the_same(selector):
    real = _serve(selector=selector)
    assert _of_each_request(_simulate(EqualTimes(), selector=selector).rounds) == _of_each_request(real.rounds)


def test_the_same_seed_gives_the_same_records():
    first, second = (_simulate(EqualTimes(), selector="spin") for _ in range(2))
    _assert_same_rounds(first.rounds, second.rounds, [*COUNTS, *TIMES])
    assert first.requests == second.requests


def test_another_run_is_noticed():
    real = _serve(selector="plain")
    with pytest.raises(Diverged, match=r"job \d+ is (catch_up|draft) here and verify in the recorded run"):
        _simulate(_times_of(real), selector="fixed good")
