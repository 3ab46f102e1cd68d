"""What one pass over the target's texts says of a drafter is what happens when it drafts."""

import numpy as np
import pytest
import torch

from spinbench.control.text import LiveText
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel
from spinbench.runtime.recording.teacher_forcing import PassLimits, score_texts
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.runtime.sampling.noise import gumbel_noise
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.workload.acceptance.agreement import NOTHING_TO_COMPARE
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.probability import decode_probability
from tests.covering import matrix
from tests.runtime import recorded, serving, tiny_models


@matrix(
    {
        "sampling": recorded.SAMPLINGS,
        "selector": (*(name for name in serving.SELECTORS if name.startswith("fixed")), "random"),
        "num_speculative_tokens": (1, 2, 4, 8),
    },
    apart=[("selector", "num_speculative_tokens")],  # a longer draft begins as a shorter one does
)
def test_every_round_of_a_run_accepts_what_the_table_says(sampling, selector, num_speculative_tokens):
    recorded.check_acceptance(sampling, selector, num_speculative_tokens)


def test_the_runs_above_have_long_and_short_acceptance():
    for sampling in recorded.SAMPLINGS:
        table = recorded.table(sampling)
        agreement = {name: float((columns.rank == 0).mean()) for name, columns in table.columns.items()}
        assert 0.2 < agreement["poor"] < agreement["good"] < 1
        assert 0 < table.requests.stopped.sum() < len(recorded.TRACE)
        # a draft that is right up to the end token and could go on
        streams = streams_from_table(table, recorded.TRACE, ["good"])
        last = streams.offsets[1:] - 1
        assert (streams.run[0][last[streams.stopped]] == 1).any()
    assert recorded.table("greedy").token_ids.tolist() != recorded.table("drafter_invariant").token_ids.tolist()


def _own_scores(model: DrafterModel, texts: WrittenTexts) -> torch.Tensor:
    """Log-probabilities of every answer position by transformers' own attention, [positions, vocab]."""
    source = model.model
    source.set_attn_implementation("sdpa")
    parts = []
    for row, prompt in enumerate(texts.prompts):
        tokens = torch.from_numpy(texts.tokens(row))
        parts.append(source(tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1))
    return torch.cat(parts)


@pytest.mark.parametrize("sampling", recorded.SAMPLINGS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_ranks_and_probabilities_are_those_of_the_models_own_forward(number, sampling):
    model = tiny_models.drafters(tiny_models.target("llama"))[number]
    texts = recorded.texts(sampling)
    columns = score_texts(model, texts, recorded.SAMPLINGS[sampling])
    own = _own_scores(model, texts)
    ids = torch.arange(own.shape[1]) if model.target_ids is None else model.target_ids
    scores = own
    if sampling == "drafter_invariant":
        rows = np.repeat(np.arange(len(recorded.TRACE)), np.diff(texts.offsets))
        places = np.arange(len(rows)) - texts.offsets[rows] + np.array([len(texts.prompts[row]) for row in rows])
        scores = own / recorded.SAMPLINGS[sampling].temperature + gumbel_noise(texts.seeds[rows], places, ids)
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
    model = recorded.models()[1][2]
    texts = recorded.texts("drafter_invariant")
    whole = score_texts(model, texts, serving.NUCLEUS)
    told: list[int] = []
    parts = score_texts(model, texts, serving.NUCLEUS, limits, told.append)
    for name in ("rank", "probability", "top_probability"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert told[-1] == texts.offsets[-1]
    assert told == sorted(told)


def test_equal_scores_are_not_all_accepted():
    target, models = recorded.models()
    copy = tiny_models.noisy_copy(models[0].model, 0, 0.0)
    with torch.no_grad():
        copy.get_output_embeddings().weight.zero_()
    columns = score_texts(DrafterModel("flat", copy, None, 1, "0" * 64), recorded.texts("greedy"), Sampling())
    # every token has the same score, so the first one is drafted, always
    assert ((columns.rank == 0) == (recorded.texts("greedy").token_ids == 0)).all()
    assert target.vocab_size == tiny_models.VOCAB


def test_a_model_that_overflows_is_named():
    copy = tiny_models.noisy_copy(recorded.models()[1][0].model, 0, 0.0)
    with torch.no_grad():
        copy.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(UserError, match="drafter 'broken': its logits are not finite"):
        score_texts(DrafterModel("broken", copy, None, 1, "0" * 64), recorded.texts("greedy"), Sampling())


def test_how_far_copies_agree_with_the_table_is_what_a_run_would_see():
    written, ngrams = recorded.texts("greedy"), recorded.ngrams()
    agreed = recorded.table("greedy").columns[ngrams.name].copy_agreed
    assert agreed is not None
    prompts = {request.id: tuple(prompt) for request, prompt in zip(recorded.TRACE, written.prompts, strict=True)}
    text = LiveText(recorded.TRACE, prompts, ngrams)
    for row in range(3):
        answer = written.token_ids[written.offsets[row] : written.offsets[row + 1]]
        for place, token in enumerate(answer.tolist()):
            seen = text.ngram_agreed(np.array([row]), np.array([place]))
            assert seen.tolist() == [agreed[written.offsets[row] + place]]
            text.append(np.array([row]), np.array([[token]]), np.array([1]))
    assert set(agreed.tolist()) > {0, 1, NOTHING_TO_COMPARE}
