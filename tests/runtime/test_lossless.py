"""Speculative output equals plain decoding and Hugging Face's `generate`, token for token.

Here for every family. With the other selectors, planners and policies that learn, and with an n-gram table, runs that are
repeated in the simulator are held against plain decoding there: tests/simulation/test_exactness.py.
"""

import dataclasses
import functools
from typing import Any

import pytest
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.records.run_record import RunRecord
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=12)


@functools.cache
def _expected(family: str, sampling: str = "greedy") -> dict[str, tuple[int, ...]]:
    """Hugging Face's own greedy answers; where tokens are drawn, those of plain decoding."""
    if sampling == "greedy":
        return serving.hf_outputs(tiny_models.target(family), TRACE)
    record = serving.serve(
        tiny_models.target(family), [], TRACE, selector="plain", max_num_seqs=1, sampling=serving.SAMPLINGS[sampling]
    )
    return serving.outputs(record)


def _serve(family: str = "llama", sampling: str = "greedy", max_num_seqs: int = 3, **decisions: Any) -> RunRecord:
    """A run whose answers are the expected ones."""
    target, models = tiny_models.shared(family)
    models = [] if decisions["selector"] == "plain" else models
    trace, expected = serving.three_batches(TRACE, max_num_seqs), _expected(family, sampling)
    record = serving.serve(
        target, models, trace, max_num_seqs=max_num_seqs, sampling=serving.SAMPLINGS[sampling], **decisions
    )
    assert serving.outputs(record) == {request.id: expected[request.id] for request in trace}
    return record


@matrix({"family": tiny_models.FAMILIES, "layout": serving.LAYOUTS, "max_num_seqs": (1, 3, 8)})
def test_plain_decoding_equals_hf_generate(family, layout, max_num_seqs):
    _serve(family, selector="plain", layout=layout, max_num_seqs=max_num_seqs)


@matrix(
    {
        "family": tiny_models.FAMILIES,
        "selector": serving.SELECTORS[1:],
        "max_num_seqs": (1, 3, 8),
        "layout": serving.LAYOUTS,
        "num_speculative_tokens": (1, 2, 4, 8),
        "sampling": serving.SAMPLINGS,
    },
    # who chooses knows neither the model's family nor the layout, and any K is the caller's
    apart=[("selector", "family"), ("selector", "layout"), ("selector", "num_speculative_tokens")],
)
def test_speculation_is_lossless(family, selector, max_num_seqs, layout, num_speculative_tokens, sampling):
    _serve(family, sampling, max_num_seqs, selector=selector, draft_length=num_speculative_tokens, layout=layout)


class RaggedDraftLength:
    """A different K for every request and round, 0 included."""

    max_num_speculative_tokens = 6

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        return (3 * context.num_rounds + 5 * context.rows) % 7

    def observe(self, outcome: RoundOutcome) -> None: ...


@pytest.mark.parametrize("layout", serving.LAYOUTS)
@pytest.mark.parametrize("selector", ["random", "fixed small_vocabulary"])
def test_unequal_draft_lengths_in_one_round(selector, layout):
    record = _serve(selector=selector, draft_length=RaggedDraftLength(), layout=layout)
    assert {part.num_speculative_tokens for part in record.rounds} == set(range(7))


@pytest.mark.parametrize("layout", serving.LAYOUTS)
@pytest.mark.parametrize("sampling", serving.SAMPLINGS)
def test_preemption_is_lossless(layout, sampling):
    record = _serve("llama", sampling, 8, selector="random", layout=layout, num_kv_blocks=20)
    assert sum(request.num_preemptions for request in record.requests) > 0


def test_drafters_are_switched_and_caught_up():
    record = _serve(selector="random")
    assert sum(part.catch_up_tokens for part in record.rounds) > 0
    accepted = {name: sum(p.accepted for p in record.rounds if p.drafter == name) for name in record.drafters}
    assert all(accepted[name] > 0 for name in ("good", "poor", "small_vocabulary")), accepted


def test_prompt_lookup_is_accepted_where_the_output_repeats():
    target = tiny_models.target("llama")
    with torch.no_grad():  # a model that only copies its input through falls into loops
        for layer in target.model.model.layers:
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.o_proj.weight.mul_(0.01)
    trace = [dataclasses.replace(request, ignore_eos=True) for request in TRACE]
    record = serving.serve(target, [], trace, selector="fixed prompt_lookup")
    plain = serving.serve(target, [], trace, selector="plain")
    assert serving.outputs(record) == serving.outputs(plain)
    assert max(part.accepted for part in record.rounds) == 4


def test_lookup_then_model_uses_both():
    record = _serve(selector="fixed good+prompt_lookup")
    copied = [part for part in record.rounds if part.lookup_match_order > 0 and part.drafted]
    modelled = [part for part in record.rounds if part.lookup_match_order == 0 and part.drafted]
    assert copied
    assert sum(part.accepted for part in modelled) > len(modelled)


def test_a_perfect_drafter_is_always_accepted():
    target = tiny_models.target("llama")
    twin = tiny_models.DrafterModel("twin", tiny_models.noisy_copy(target.model, 0, 0.0), None, 1, "0" * 64)
    for sampling in (serving.GREEDY, serving.Sampling(temperature=1.0)):
        record = serving.serve(target, [twin], TRACE, selector="fixed twin", sampling=sampling)
        missed = [p for p in record.rounds if p.accepted < p.drafted]
        # the only drafted tokens lost are those behind an end token
        ended = {r.request_id for r in record.requests if r.finish_reason == "stop"}
        last = {
            r.request_id: max(p.round_index for p in record.rounds if p.request_id == r.request_id)
            for r in record.requests
            if r.output_tokens > 1
        }
        assert all(p.request_id in ended and p.round_index == last[p.request_id] for p in missed)
