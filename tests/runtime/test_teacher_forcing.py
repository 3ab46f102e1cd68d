"""What one pass over the target's texts says of a drafter is what happens when it drafts."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinbench.control.record import RunRecord
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.noise import gumbel_noise
from spinbench.runtime.sampler import Sampling
from spinbench.runtime.teacher_forcing import PassLimits, WrittenTexts, score_texts
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.lookup import lookup_columns
from spinbench.workload.acceptance.probability import decode_probability
from spinbench.workload.acceptance.table import AcceptanceTable, RecordedRequests
from spinbench.workload.acceptance.walk import walk
from tests.runtime import serving, tiny_models
from tests.workload.acceptance.made_table import meta

TRACE = serving.requests(8, max_new_tokens=24)
SAMPLINGS = {"greedy": serving.GREEDY, "drafter_invariant": serving.NUCLEUS}


@functools.cache
def _models() -> tuple[TargetModel, list[DrafterModel]]:
    """The target ends at tokens that it says in the midst of some answers, and its drafters."""
    target = tiny_models.target("llama")
    ends = set()
    for sampling in SAMPLINGS.values():
        answers = serving.outputs(serving.serve(target, [], TRACE, selector="plain", sampling=sampling))
        ends |= {answers["r1"][9], answers["r5"][7]}
    return replace(target, eos_token_ids=frozenset(ends)), tiny_models.drafters(target)


@functools.cache
def _plain(sampling: str) -> RunRecord:
    return serving.serve(_models()[0], [], TRACE, selector="plain", sampling=SAMPLINGS[sampling])


def _texts(sampling: str) -> WrittenTexts:
    answers = serving.outputs(_plain(sampling))
    lengths = [len(answers[request.id]) for request in TRACE]
    return WrittenTexts(
        [request.prompt_token_ids or () for request in TRACE],
        np.concatenate([answers[request.id] for request in TRACE]).astype(np.int64),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array([request.seed for request in TRACE]),
    )


@functools.cache
def _table(sampling: str) -> AcceptanceTable:
    texts = _texts(sampling)
    models = _models()[1]
    reasons = {request.request_id: request.finish_reason for request in _plain(sampling).requests}
    lookup = lookup_columns(texts.prompts, texts.token_ids.astype(np.int32), texts.offsets)
    return AcceptanceTable(
        meta([model.name for model in models]),
        RecordedRequests(
            tuple(request.id for request in TRACE),
            np.array([len(prompt) for prompt in texts.prompts]),
            np.array([request.max_new_tokens for request in TRACE]),
            np.array([reasons[request.id] == "stop" for request in TRACE]),
            np.array([request.ignore_eos for request in TRACE]),
            texts.seeds,
            (None,) * len(TRACE),
            texts.offsets,
        ),
        texts.token_ids.astype(np.int32),
        lookup.match_order,
        lookup.lookup_run,
        {model.name: score_texts(model, texts, SAMPLINGS[sampling]) for model in models},
    )


@pytest.mark.parametrize("num_speculative_tokens", [1, 2, 4, 8])
@pytest.mark.parametrize("drafter", ["good", "poor", "small_vocabulary", "prompt_lookup", "good+prompt_lookup"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_round_of_a_run_accepts_what_the_table_says(sampling, drafter, num_speculative_tokens):
    target, models = _models()
    record = serving.serve(
        target, models, TRACE, selector=f"fixed {drafter}", draft_length=num_speculative_tokens,
        sampling=SAMPLINGS[sampling],
    )  # fmt: skip
    infos = {info.name: info for info in serving.drafter_infos(models)}
    names = list(infos)
    info, index = infos[drafter], names.index(drafter)
    streams = streams_from_table(_table(sampling), TRACE, names)
    row_of = {request.id: row for row, request in enumerate(TRACE)}
    rounds = record.rounds
    rows = np.array([row_of[rounds.request_ids[row]] for row in rounds.row.tolist()])
    emitted = rounds.context_tokens - _table(sampling).requests.prompt_tokens[rows]

    order = streams.match_order_at(rows, emitted)
    assert order.tolist() == rounds.lookup_match_order.tolist()
    by_lookup = info.drafts_by_lookup(order)
    bounds = (info.max_match_tokens, info.min_match_tokens)
    found = ~by_lookup | streams.lookup_finds(rows, emitted, *bounds)
    assert (rounds.drafted > 0).tolist() == (found & (rounds.num_speculative_tokens > 0)).tolist()
    run = streams.accepted_run(rows, emitted, index, by_lookup, *bounds)
    assert np.minimum(run, rounds.num_speculative_tokens).tolist() == rounds.accepted.tolist()
    # and the rounds are those of the walk, without an engine
    walked = walk(streams, index, num_speculative_tokens, info.drafts_by_lookup, *bounds)
    for row in range(len(TRACE)):
        assert walked.accepted[walked.row == row].tolist() == rounds.accepted[rows == row].tolist()


def test_the_runs_above_have_long_and_short_acceptance():
    for sampling in SAMPLINGS:
        table = _table(sampling)
        agreement = {name: float((columns.rank == 0).mean()) for name, columns in table.columns.items()}
        assert 0.2 < agreement["poor"] < agreement["good"] < 1
        assert 0 < table.requests.stopped.sum() < len(TRACE)
        # a draft that is right up to the end token and could go on
        streams = streams_from_table(table, TRACE, ["good"])
        last = streams.offsets[1:] - 1
        assert (streams.run[0][last[streams.stopped]] == 1).any()
    assert _table("greedy").token_ids.tolist() != _table("drafter_invariant").token_ids.tolist()


def _own_scores(model: DrafterModel, texts: WrittenTexts) -> torch.Tensor:
    """Log-probabilities of every answer position by transformers' own attention, [positions, vocab]."""
    source = model.model
    source.set_attn_implementation("sdpa")
    parts = []
    for row, prompt in enumerate(texts.prompts):
        tokens = torch.from_numpy(texts.tokens(row))
        parts.append(source(tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1))
    return torch.cat(parts)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_ranks_and_probabilities_are_those_of_the_models_own_forward(number, sampling):
    model = tiny_models.drafters(tiny_models.target("llama"))[number]
    texts = _texts(sampling)
    columns = score_texts(model, texts, SAMPLINGS[sampling])
    own = _own_scores(model, texts)
    ids = torch.arange(own.shape[1]) if model.target_ids is None else model.target_ids
    scores = own
    if sampling == "drafter_invariant":
        rows = np.repeat(np.arange(len(TRACE)), np.diff(texts.offsets))
        places = np.arange(len(rows)) - texts.offsets[rows] + np.array([len(texts.prompts[row]) for row in rows])
        scores = own / SAMPLINGS[sampling].temperature + gumbel_noise(texts.seeds[rows], places, ids)
    for position, token in enumerate(texts.token_ids.tolist()):
        column = torch.nonzero(ids == token)
        if not len(column):
            assert (columns.rank[position], columns.probability[position]) == (255, 255)
            continue
        own_score = scores[position, column[0, 0]]
        assert columns.rank[position] == int((scores[position] > own_score).sum())
        expected = max(float(own[position, column[0, 0]].exp()), 1.6e-5)
        assert decode_probability(columns.probability[position]) == pytest.approx(expected, rel=0.023)
    expected_top = own.max(-1).values.exp().numpy()
    np.testing.assert_allclose(decode_probability(columns.top_probability), expected_top, rtol=0.023)
    assert (columns.rank == 255).any() == (model.name == "small_vocabulary")


@pytest.mark.parametrize("limits", [PassLimits(7, 3), PassLimits(1, 1), PassLimits(40, 100)])
def test_passes_of_any_size_give_the_same(limits):
    model = _models()[1][2]
    texts = _texts("drafter_invariant")
    whole = score_texts(model, texts, serving.NUCLEUS)
    told: list[int] = []
    parts = score_texts(model, texts, serving.NUCLEUS, limits, told.append)
    for name in ("rank", "probability", "top_probability"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert told[-1] == texts.offsets[-1]
    assert told == sorted(told)


def test_equal_scores_are_not_all_accepted():
    target, models = _models()
    copy = tiny_models.noisy_copy(models[0].model, 0, 0.0)
    with torch.no_grad():
        copy.get_output_embeddings().weight.zero_()
    columns = score_texts(DrafterModel("flat", copy, None, 1, "0" * 64), _texts("greedy"), Sampling())
    # every token has the same score, so the first one is drafted, always
    assert ((columns.rank == 0) == (_texts("greedy").token_ids == 0)).all()
    assert target.vocab_size == tiny_models.VOCAB


def test_a_model_that_overflows_is_named():
    copy = tiny_models.noisy_copy(_models()[1][0].model, 0, 0.0)
    with torch.no_grad():
        copy.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(UserError, match="drafter 'broken': its logits are not finite"):
        score_texts(DrafterModel("broken", copy, None, 1, "0" * 64), _texts("greedy"), Sampling())
