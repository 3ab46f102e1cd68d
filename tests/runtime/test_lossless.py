"""Speculative output equals plain decoding and Hugging Face's `generate`, token for token."""

import dataclasses
import functools

import pytest
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from tests.covering import matrix
from tests.runtime import recorded, serving, tiny_models

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


@matrix({"family": tiny_models.FAMILIES, "layout": serving.LAYOUTS, "max_num_seqs": (1, 3, 8)})
def test_plain_decoding_equals_hf_generate(family, layout, max_num_seqs):
    target, _ = tiny_models.shared(family)
    record = serving.serve(target, [], TRACE, selector="plain", layout=layout, max_num_seqs=max_num_seqs)
    assert serving.outputs(record) == _expected(family)


@matrix(
    {
        "family": tiny_models.FAMILIES,
        "selector": serving.SELECTORS[1:],
        "max_num_seqs": (1, 3, 8),
        "layout": serving.LAYOUTS,
        "num_speculative_tokens": (1, 2, 4, 8),
        "sampling": serving.SAMPLINGS,
    }
)
def test_speculation_is_lossless(family, selector, max_num_seqs, layout, num_speculative_tokens, sampling):
    target, models = tiny_models.shared(family)
    record = serving.serve(
        target, models, TRACE, selector=selector, draft_length=num_speculative_tokens, max_num_seqs=max_num_seqs,
        layout=layout, sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert serving.outputs(record) == _expected(family, sampling)


@matrix(
    {
        "selector": serving.BANDITS,
        "max_num_seqs": (1, 3),
        "layout": ("packed", "decomposed"),  # layouts do not know who chose: the others are tried above
        "sampling": serving.SAMPLINGS,
    }
)
def test_speculation_under_a_bandit_is_lossless(selector, max_num_seqs, layout, sampling):
    target, models = tiny_models.shared("llama")
    record = serving.serve(
        target, models, TRACE, selector=selector, max_num_seqs=max_num_seqs, layout=layout,
        sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert serving.outputs(record) == _expected("llama", sampling)
    assert len({part.drafter for part in record.rounds}) > 1


@matrix(
    {
        "selector": serving.PLANNERS,
        "max_num_seqs": (1, 3, 8),
        "layout": serving.LAYOUTS,
        "num_speculative_tokens": (1, 6),
        "sampling": serving.SAMPLINGS,
    }
)
def test_choosing_drafter_and_length_is_lossless(selector, max_num_seqs, layout, num_speculative_tokens, sampling):
    target, models = tiny_models.shared("llama")
    record = serving.serve(
        target, models, TRACE, selector=selector, draft_length=num_speculative_tokens, max_num_seqs=max_num_seqs,
        layout=layout, sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert serving.outputs(record) == _expected("llama", sampling)
    assert record.rounds.drafted.sum() > 0


@pytest.mark.parametrize("max_num_seqs", [1, 8])
@pytest.mark.parametrize("selector", ["random", "fixed good+prompt_lookup"])
@pytest.mark.parametrize("policy", serving.POLICIES)
def test_draft_lengths_that_learn_are_lossless(policy, selector, max_num_seqs):
    target, models = tiny_models.shared()
    record = serving.serve(target, models, TRACE, selector=selector, policy=policy, max_num_seqs=max_num_seqs)
    assert serving.outputs(record) == _expected("llama")
    assert len(set(record.rounds.num_speculative_tokens.tolist())) > 1


@matrix(
    {
        "selector": ("fixed tiny-ngram", "fixed tiny-ngram+prompt_lookup", "random", "joint", "hedge"),
        "max_num_seqs": (1, 3, 8),
        "sampling": serving.SAMPLINGS,
    }
)
def test_drafting_from_an_ngram_table_is_lossless(selector, max_num_seqs, sampling):
    target, models = recorded.models()
    record = serving.serve(
        target, [*models, recorded.ngrams()], recorded.TRACE, selector=selector, max_num_seqs=max_num_seqs,
        draft_length=5, sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert serving.outputs(record) == serving.outputs(recorded.plain(sampling))
    by = record.rounds.drafter >= len(record.rounds.drafters) - 2  # the table, alone and behind a lookup
    assert record.rounds.accepted[by].sum() > 0


class RaggedDraftLength:
    """A different K for every request and round, 0 included."""

    max_num_speculative_tokens = 6

    def lengths(self, context: RoundContext, drafters: IntArray) -> IntArray:
        return (3 * context.num_rounds + 5 * context.rows) % 7

    def observe(self, outcome: RoundOutcome) -> None: ...


@pytest.mark.parametrize("layout", serving.LAYOUTS)
@pytest.mark.parametrize("selector", ["random", "spin", "fixed small_vocabulary"])
def test_unequal_draft_lengths_in_one_round(selector, layout):
    target, models = tiny_models.shared()
    record = serving.serve(target, models, TRACE, selector=selector, draft_length=RaggedDraftLength(), layout=layout)
    assert serving.outputs(record) == _expected("llama")
    assert {part.num_speculative_tokens for part in record.rounds} == set(range(7))


@pytest.mark.parametrize("layout", serving.LAYOUTS)
@pytest.mark.parametrize("sampling", serving.SAMPLINGS)
def test_preemption_is_lossless(layout, sampling):
    target, models = tiny_models.shared("llama")
    record = serving.serve(
        target, models, TRACE, selector="random", max_num_seqs=8, layout=layout,
        num_kv_blocks=20, sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    assert sum(request.num_preemptions for request in record.requests) > 0
    assert serving.outputs(record) == _expected("llama", sampling)


def test_drafters_are_switched_and_caught_up():
    target, models = tiny_models.shared()
    record = serving.serve(target, models, TRACE, selector="random")
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
    target, models = tiny_models.shared()
    record = serving.serve(target, models, TRACE, selector="fixed good+prompt_lookup")
    assert serving.outputs(record) == _expected("llama")
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
